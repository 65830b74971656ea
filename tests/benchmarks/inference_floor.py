"""Inference through worker and arena against a bare ONNX Runtime loop with the same file, thread count and binding, in the same run.

Both are measured in alternating blocks, so that a neighbour's load meets both, and so is the floor: two bare processes that hand the
same computing time to each other (ping_pong.py). The overhead is submit to answer in the client, minus the bare call: two processes
woken, no tensor copied but the client's own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contracts.manifest import Manifest
from edge_agent.inference.client import Client
from edge_agent.inference.host import WorkerHost
from tests.benchmarks.bare import bare
from tests.benchmarks.ping_pong import PingPong
from tests.simulators.bundles import write_slot

BLOCKS, WARM_UP = 10, 50
P50_GOAL_US, P99_GOAL_US, RATIO_GOAL = 60.0, 200.0, 1.02
SIDE = 32


def figures() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return [*_measure(Path(folder), "small model", channels=8, layers=1, calls=200), *_measure(Path(folder), "large model", 48, 8, 20)]


def _measure(folder: Path, name: str, channels: int, layers: int, calls: int) -> list[dict[str, Any]]:
    digest, slot, manifest = _slot(folder, channels, layers)
    bare_us, arena_us, floor_us, compute_us = asyncio.run(_alternate(digest, slot, manifest, calls))
    lines = [_figure(f"{name}, worker compute p50", float(np.median(compute_us)), "us", against=f"{np.median(bare_us):.0f} us bare")]
    for percent, goal in ((50, P50_GOAL_US), (99, P99_GOAL_US)):
        alone, arena, handed = (float(np.percentile(values, percent)) for values in (bare_us, arena_us, floor_us))
        floor = handed - alone
        lines.append(_figure(f"{name}, bare loop p{percent}", alone, "us"))
        lines.append(_figure(f"{name}, through the worker p{percent}", arena, "us", against=f"{alone:.0f} us bare"))
        lines.append(_figure(f"{name}, ping-pong floor p{percent}", floor, "us"))
        lines.append(_figure(f"{name}, overhead p{percent}", arena - alone, "us", floor + goal, f"{floor:.0f} us floor + {goal:g} us"))
    ratio = float(np.median(arena_us) / np.median(bare_us))
    wanted = RATIO_GOAL if np.median(bare_us) >= 5000 else None  # below that the fixed cost of two wake-ups is more than 2 %
    lines.append(_figure(f"{name}, ratio of medians", ratio, "x", wanted, "bare loop"))
    return lines


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


async def _alternate(digest: str, slot: Path, manifest: Manifest, calls: int) -> tuple[list[float], ...]:
    """Microseconds: bare calls, calls through the worker, ping-pong with the same computing, what the worker says that it computed."""
    host = WorkerHost(sys.executable, slot.parent / "run")
    try:
        await host.load(digest, slot, manifest)
        route, descriptors = host.route(digest)
        memfd, request_fd, response_fd = (os.dup(number) for number in descriptors)
        client = Client(route["arena"], route["input"], route["output"], (memfd, request_fd, response_fd))
        values = np.load(slot / "golden_input.npy")[:1]
        compute = bare(slot, manifest)
        computed: list[float] = []

        def through() -> None:
            computed.append(client.infer(values, 5.0).compute_us)

        times: tuple[list[float], list[float], list[float]] = ([], [], [])
        with PingPong(slot) as ping_pong:
            for call in (compute, through, ping_pong.call):
                _time(call, WARM_UP)
            for _ in range(BLOCKS):
                for call, kept in zip((compute, through, ping_pong.call), times, strict=True):
                    kept.extend(_time(call, calls))
        client.close()
        return (*times, computed[WARM_UP:])
    finally:
        await host.close()


def _time(call: Callable[[], object], count: int) -> list[float]:
    """Microseconds of each call."""
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - began) / 1e3)
    return times


def _slot(folder: Path, channels: int, layers: int) -> tuple[str, Path, Manifest]:
    import onnxruntime

    model, inputs = _model(channels, layers), np.random.default_rng(1).standard_normal((4, 1, SIDE, SIDE)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = np.concatenate([session.run(None, {"x": one[None]})[0] for one in inputs])
    shapes = {
        "input": {"name": "x", "dtype": "f32", "shape": [1, 1, SIDE, SIDE]},
        "output": {"name": "y", "dtype": "f32", "shape": list(outputs.shape[1:])},
    }
    shapes["output"]["shape"] = [1, *outputs.shape[1:]]
    limits = {"memory_bytes": 1 << 30, "latency_p95_us": 10_000_000}
    return write_slot(folder, "onnxruntime", "model.onnx", model, (inputs, outputs), {**shapes, "limits": limits, "number": layers})


def _model(channels: int, layers: int) -> bytes:
    """`layers` convolutions 3x3 of `channels`, then the mean of each channel."""
    from onnx import TensorProto, helper, numpy_helper

    random, nodes, tensors, name, depth = np.random.default_rng(2), [], [], "x", 1
    for layer in range(layers):
        weight = (random.standard_normal((channels, depth, 3, 3)) / (3 * depth**0.5)).astype(np.float32)
        tensors.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [name, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        name, depth = f"r{layer}", channels
    nodes.append(helper.make_node("GlobalAveragePool", [name], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["y"]))
    shapes = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, SIDE, SIDE]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels]),
    ]
    graph = helper.make_graph(nodes, "floor", shapes[:1], shapes[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    import json

    print(json.dumps(figures(), indent=1))
