"""Inference through worker and arena against a bare ONNX Runtime loop with the same file, thread count and binding, in the same run.

All are measured in alternating blocks, so that a neighbour's load meets all. The floors: two bare processes that hand the same computing to
each other (ping_pong.py), and a bare loop that copies its input first; the copy is measured there because a model throws input and target
out of the caches, so that it costs three times what it costs alone. The overhead is submit to answer in the client, minus the bare call.

Client and worker, and both sides of the ping-pong, are pinned: once to one core, once to two. Waking another core costs a virtual
machine 40 to 100 us and the same core 7; left to itself the scheduler picks one of the two for a whole run, and every figure shows which.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from contracts.manifest import Manifest
from edge_agent.inference.client import Client
from edge_agent.inference.host import WorkerHost
from tests.benchmarks import models
from tests.benchmarks.bare import bare
from tests.benchmarks.ping_pong import PingPong
from tests.simulators.bundles import write_slot

Slot = tuple[str, Path, Manifest]  # digest, folder
Times = dict[str, list[list[float]]]  # what was called -> microseconds of its calls, block by block
BLOCKS, WARM_UP = 20, 50
P50_GOAL_US, P99_GOAL_US, RATIO_GOAL = 60.0, 200.0, 1.02


@dataclass(frozen=True)
class Measured:
    name: str
    model: Callable[[], bytes]
    shape: tuple[int, ...]  # of the input
    calls: int


SMALL = Measured("tiny MLP", models.mlp, (1, 64), 500)
LARGE = Measured("large model", partial(models.convolutions, 1, 32, 48, 8), (1, 1, 32, 32), 100)
RESNET = Measured("ResNet-18 of width 16, 600 KB", models.resnet18, (1, 3, 224, 224), 100)


@dataclass(frozen=True)
class Placement:
    """The cores of the client and of who answers."""

    name: str
    near: int
    far: int


def figures() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        slots = [(measured, slot_of(Path(folder), measured, number)) for number, measured in enumerate((SMALL, LARGE, RESNET), 1)]
        return [line for measured, slot in slots for placement in placements() for line in _measure(measured, placement, slot)]


def placements() -> list[Placement]:
    cores = sorted(os.sched_getaffinity(0))
    return [Placement("one core", cores[0], cores[0]), *(Placement("two cores", cores[0], core) for core in cores[1:2])]


def pin(pid: int, core: int) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {core})


def _measure(measured: Measured, placement: Placement, slot: Slot) -> list[dict[str, Any]]:
    name, cores = f"{measured.name}, {placement.name}", os.sched_getaffinity(0)
    try:
        times, compute_us = asyncio.run(_alternate(*slot, measured.calls, placement))
    finally:
        os.sched_setaffinity(0, cores)
    medians = _typical(times, 50)
    lines = [_figure(f"{name}, worker compute p50", float(np.median(compute_us)), "us", against=f"{medians['bare']:.0f} us bare")]
    for percent, goal in ((50, P50_GOAL_US), (99, P99_GOAL_US)):
        of = _typical(times, percent)
        alone, floor, copy = of["bare"], of["ping-pong"] - of["bare"], of["bare, copying"] - of["bare"]
        lines.append(_figure(f"{name}, bare loop p{percent}", alone, "us"))
        lines.append(_figure(f"{name}, through the worker p{percent}", of["arena"], "us", against=f"{alone:.0f} us bare"))
        lines.append(_figure(f"{name}, ping-pong floor p{percent}", floor, "us"))
        lines.append(_figure(f"{name}, copy of the input in the loop p{percent}", copy, "us"))
        against = f"{floor:.0f} us floor + {copy:.0f} us copy + {goal:g} us"
        lines.append(_figure(f"{name}, overhead p{percent}", of["arena"] - alone, "us", floor + copy + goal, against))
        against = f"{floor:.0f} us floor + {goal:g} us"
        lines.append(_figure(f"{name}, overhead without copies p{percent}", of["in place"] - alone, "us", floor + goal, against))
    ratio = medians["arena"] / medians["bare"]
    wanted = RATIO_GOAL if medians["bare"] >= 5000 else None  # below that the fixed cost of two wake-ups is more than 2 %
    lines.append(_figure(f"{name}, ratio of medians", ratio, "x", wanted, "bare loop"))
    return lines


def _typical(times: Times, percent: float) -> dict[str, float]:
    """The median of the blocks' percentiles: who runs beside us for a moment spoils the blocks of that moment, and not the figure."""
    return {which: float(np.median(np.percentile(blocks, percent, axis=1))) for which, blocks in times.items()}


def _figure(name: str, value: float, unit: str, goal: float | None = None, against: str = "") -> dict[str, Any]:
    holds = None if goal is None else value <= goal
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "goal": "" if goal is None else f"<= {round(goal, 1):g}",
        "holds": holds,
        "against": against,
    }


async def _alternate(digest: str, slot: Path, manifest: Manifest, calls: int, placement: Placement) -> tuple[Times, list[float]]:
    """And what the worker says that it computed."""
    host = WorkerHost(sys.executable, slot.parent / "run")
    try:
        await host.load(digest, slot, manifest)
        route, descriptors = host.route(digest)
        memfd, request_fd, response_fd = (os.dup(number) for number in descriptors)
        client = Client(route["arena"], route["input"], route["output"], (memfd, request_fd, response_fd))
        values, computed = np.load(slot / "golden_input.npy")[:1], list[float]()
        with PingPong(slot) as ping_pong:
            called = {**_calls(client, values, bare(slot, manifest), computed), "ping-pong": ping_pong.call}
            for call in called.values():
                _time(call, WARM_UP)
            for pid, core in ((os.getpid(), placement.near), (client.worker_pid(), placement.far), (ping_pong.pid, placement.far)):
                pin(pid, core)
            computed.clear()
            times: Times = {name: [] for name in called}
            for block in range(BLOCKS):
                for name in random.Random(block).sample(sorted(called), len(called)):  # whoever comes after a stranger finds cold caches
                    times[name].append(_time(called[name], calls))
        client.close()
        return times, computed
    finally:
        await host.close()


def _calls(client: Client, values: Any, compute: Callable[[], object], computed: list[float]) -> dict[str, Callable[[], object]]:
    target = np.empty_like(values)

    def copying() -> None:
        np.copyto(target, values)
        compute()

    def through() -> None:
        computed.append(client.infer(values, 5.0).compute_us)

    def in_place() -> None:
        ticket = client.commit(client.reserve(), time.monotonic_ns() + 5 * 10**9)
        client.hold(ticket)
        client.release(ticket)

    return {"bare": compute, "bare, copying": copying, "arena": through, "in place": in_place}


def _time(call: Callable[[], object], count: int, apart_us: float = 0.0) -> list[float]:
    """Microseconds of each call; they begin at least `apart_us` after each other."""
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - began) / 1e3)
        while time.perf_counter_ns() - began < apart_us * 1e3:
            continue
    return times


def slot_of(folder: Path, measured: Measured, number: int = 1) -> Slot:
    import onnxruntime

    model, inputs = measured.model(), np.random.default_rng(1).standard_normal((2, *measured.shape[1:])).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = np.concatenate([session.run(None, {"x": one[None]})[0] for one in inputs])
    changes: dict[str, Any] = {
        "input": {"name": "x", "dtype": "f32", "shape": measured.shape},
        "output": {"name": "y", "dtype": "f32", "shape": [1, *outputs.shape[1:]]},
        "limits": {"memory_bytes": 1 << 30, "latency_p95_us": 10_000_000},
        "number": number,
    }
    return write_slot(folder, "onnxruntime", "model.onnx", model, (inputs, outputs), changes)


def ping_pong_us(apart_us: float) -> float:
    """p50 of the floor alone with the tiny model, over its bare loop, on two cores where there are two.

    A call begins `apart_us` after the one before it: to wake somebody costs the more the longer he has slept.
    """
    placement, cores = placements()[-1], os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        _, slot, manifest = slot_of(Path(folder), SMALL)
        compute = bare(slot, manifest)
        with PingPong(slot) as floor:
            floor.call()
            try:
                pin(os.getpid(), placement.near)
                pin(floor.pid, placement.far)
                through, alone = (np.median(_time(call, 1000, apart_us)) for call in (floor.call, compute))
                return float(through - alone)
            finally:
                os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    import json

    print(json.dumps(figures(), indent=1))
