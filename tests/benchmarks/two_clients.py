"""Two client processes at one worker: how much of what the machine can do arrives. Against the bare loop, and the ping-pong's own rate.

The worker has one core and the clients the other, where there are two. The ping-pong is taken where it is faster: on one core or on two.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edge_agent.inference.attach import NAME, AttachSocket
from edge_agent.inference.host import WorkerHost
from tests.benchmarks.bare import bare
from tests.benchmarks.inference_floor import RESNET, SMALL, Slot, pin, placements, slot_of
from tests.benchmarks.ping_pong import REPO, PingPong

Figure = dict[str, Any]
CLIENTS, SECONDS, ROUNDS, IN_FLIGHT = 2, 1.5, 3, 2
GOALS = {SMALL.name: 0.70, RESNET.name: 0.97}
# Two requests on their way each: while one is computed the next is written. Counts answers from the first line on its standard input.
CLIENT = """
import sys, time, numpy as np
from edge_agent.inference.client import Client
path, seconds, in_flight = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
client = Client.attach(path)
values = np.random.default_rng(1).random(client.input_shape).astype(client.input_dtype)
far = lambda: time.monotonic_ns() + 5 * 10**9
print("ready", flush=True)
sys.stdin.readline()
waiting, count, until = [client.submit(values, far()) for _ in range(in_flight)], 0, time.monotonic() + seconds
while time.monotonic() < until:
    client.collect(waiting.pop(0))
    count += 1
    waiting.append(client.submit(values, far()))
print(count, flush=True)
"""


def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        return [
            line for number, measured in enumerate((SMALL, RESNET), 1) for line in _of(measured, slot_of(Path(folder), measured, number))
        ]


def _of(measured: Any, slot: Slot) -> list[Figure]:
    cores = os.sched_getaffinity(0)
    try:
        floors, rates = asyncio.run(_rounds(slot, against_bare=measured is RESNET))
    finally:
        os.sched_setaffinity(0, cores)
    name, goal, share = f"{measured.name}, two clients", GOALS[measured.name], max(rates) / max(floors)
    floor = "bare loop" if measured is RESNET else "ping-pong"
    return [
        {"name": f"{name}, answers", "value": round(max(rates)), "unit": "/s"},
        {
            "name": f"{name}, share of the {floor}", "value": round(share, 3), "unit": "", "goal": f">= {goal:g}", "holds": share >= goal,
            "against": f"{max(floors):.0f}/s {floor}",
        },
    ]  # fmt: skip


async def _rounds(slot: Slot, against_bare: bool) -> tuple[list[float], list[float]]:
    """(floors, rates), answers per second; the two take turns."""
    digest, folder, manifest = slot
    place = placements()[-1]
    host = WorkerHost(sys.executable, folder.parent / "run")
    path = folder.parent / NAME
    serving = asyncio.ensure_future(AttachSocket(path, host, lambda: digest).serve())
    try:
        await host.load(digest, folder, manifest)
        with PingPong(folder) as ping_pong:
            ping_pong.call()
            floor = bare(folder, manifest) if against_bare else ping_pong.call
            pin(os.getpid(), place.near)
            pin(host.pids()[digest], place.far)
            floors, rates = [], []
            for _ in range(ROUNDS):
                for core in {place.near, place.far}:
                    pin(ping_pong.pid, core)
                    floors.append(_rate(floor))
                rates.append(await asyncio.to_thread(_clients, path))
        return floors, rates
    finally:
        await host.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def _rate(call: Callable[[], object]) -> float:
    count, began = 0, time.monotonic()
    while time.monotonic() - began < SECONDS:
        call()
        count += 1
    return count / (time.monotonic() - began)


def _clients(path: Path) -> float:
    """They inherit our core, and all begin at once."""
    command = [sys.executable, "-c", CLIENT, str(path), str(SECONDS), str(IN_FLIGHT)]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(CLIENTS)
        ]
        ends = [(client.stdin, client.stdout) for client in clients if client.stdin and client.stdout]
        assert [output.readline() for _, output in ends] == ["ready\n"] * CLIENTS
        for input_, _ in ends:
            input_.write("go\n")
            input_.flush()
        return sum(int(output.readline()) for _, output in ends) / SECONDS


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
