"""Clients of one worker die by the thousand: `python -m tests.integration.arena_kills 10000`. The daily test does fewer.

Agent and worker are real, a bystander infers all the while. Afterwards: every seat is free, no cell is occupied, the worker is the one it
was, no descriptor is left open, and each seat serves with the right answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.inference.attach import AttachSocket
from edge_agent.inference.client import Client
from edge_agent.inference.host import HostSettings, WorkerHost
from edge_agent.inference.worker.backends import fake
from tests.simulators.bundles import OUTPUT_SHAPE, fake_slot, golden_inputs
from tests.simulators.dying_clients import SLOW_VALUE

REPO = Path(__file__).resolve().parents[2]
SETTLE_S = 30.0


async def kills(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """What happened, for `check_found`."""
    digest, slot, manifest = fake_slot(folder / "slots", {"do": "slow", "us": 1500, "value": SLOW_VALUE})
    host, path = WorkerHost(sys.executable, folder / "run", HostSettings()), folder / "arena.sock"
    serving = asyncio.ensure_future(AttachSocket(path, host, lambda: digest).serve())
    try:
        await host.load(digest, slot, manifest)
        bystander = await asyncio.to_thread(Client.attach, str(path))
        before, worker, began = _descriptors(), host.pids()[digest], time.monotonic()
        dying = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.simulators.dying_clients", str(path), str(count), str(seed)),
            cwd=REPO,
            stdout=asyncio.subprocess.PIPE,
        )
        ended = asyncio.ensure_future(dying.communicate())
        right, wrong = await asyncio.to_thread(_bystand, bystander, ended)
        died, taken_s = json.loads((await ended)[0] or b"{}"), time.monotonic() - began
        settled = await _settled(host, digest)
        after = _descriptors()
        serves = await asyncio.to_thread(_every_seat_serves, str(path), settled["free"])
        bystander.close()
        same = host.pids().get(digest) == worker and host.deaths.empty()
        return {
            "died": died, "returncode": dying.returncode, "taken_s": taken_s, "seats": settled, "cells": host.cells()[digest],
            "descriptors": after - before, "same_worker": same, "seats_that_serve": serves, "bystander": {"right": right, "wrong": wrong},
        }  # fmt: skip
    finally:
        await host.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def check_found(found: dict[str, Any], count: int) -> None:
    assert found["returncode"] == 0
    assert sum(found["died"].values()) == count
    assert found["seats"] == {"free": 6, "leased": 1, "settling": 0}  # the bystander's is the one
    assert found["seats_that_serve"] == 6
    assert (found["cells"], found["descriptors"], found["same_worker"]) == (0, 0, True)
    assert found["bystander"]["right"] > 0
    assert found["bystander"]["wrong"] == 0


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _bystand(client: Client, ended: asyncio.Future[Any]) -> tuple[int, int]:
    """(right answers, others) until the last client has died."""
    values, counts = golden_inputs(1), [0, 0]
    while not ended.done():
        counts[not _right(client, values * (counts[0] % 7))] += 1
    return counts[0], counts[1]


def _right(client: Client, values: Any) -> bool:
    return bool(np.allclose(client.infer(values, SETTLE_S).output, fake.expected(values, OUTPUT_SHAPE), atol=1e-3))


async def _settled(host: WorkerHost, digest: str) -> dict[str, int]:
    until = time.monotonic() + SETTLE_S
    seats: dict[str, int] = host.figures()[digest]["seats"]
    while (seats["settling"] or seats["leased"] > 1) and time.monotonic() < until:
        await asyncio.sleep(0)
        seats = host.figures()[digest]["seats"]
    return seats


def _every_seat_serves(path: str, seats: int) -> int:
    clients = [Client.attach(path) for _ in range(seats)]
    right = sum(all(_right(client, golden_inputs(1) * k) for k in range(3)) for client in clients)
    for client in clients:
        client.close()
    return right


def main(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="skerry-kills-") as folder:
        found = asyncio.run(kills(Path(folder), count, seed=1))
    print(json.dumps(found, indent=1))
    check_found(found, count)


if __name__ == "__main__":
    main(int(sys.argv[1]))
