"""What a shadow costs the callers of the Open Inference Protocol front: `python -m tests.benchmarks.oip_trial`.

One front for each share, each with a live model and a candidate (`fake`: hardly any computing, so that what is ours shows), asked in turn
in the same run: by one caller that rests 2 ms after each answer, and by eight that do not rest. Binary REST over the Unix socket.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edge_agent.inference.worker.backends import fake
from tests.integration.oip_process import Site, Slot, site
from tests.simulators.bundles import OUTPUT_SHAPE, write_slot

SHARES = (0.0, 0.1, 1.0, 0.0)  # the first again at the end: how far two of the same are apart
SHAPES = {"tiny": (1, 1, 8, 8), "600 KB": (1, 3, 224, 224)}
ROUNDS, PACED_S, FULL_S, PAUSE_S, CALLERS = 10, 0.4, 0.6, 0.002, 8


def slot(folder: Path, shape: tuple[int, ...], number: int) -> Slot:
    inputs = np.random.default_rng(1).random((4, *shape[1:])).astype(np.float32)
    outputs = np.concatenate([fake.expected(one[None], OUTPUT_SHAPE) for one in inputs]).astype(np.float32)
    changes = {"number": number, "input": {"name": "x", "dtype": "f32", "shape": shape}}
    return write_slot(folder, "fake", "model.json", b'{"faults": []}', (inputs, outputs), changes)


def start(stack: ExitStack, folder: Path, shape: tuple[int, ...], share: float) -> Site:
    folder.mkdir()
    here = stack.enter_context(site(folder, slot(folder / "slots", shape, 1), {"shadow_share": share}))
    candidate = slot(folder / "slots", shape, 2)
    here.load(candidate)
    here.candidate = candidate[0]
    return here


async def ask(path: str, request: bytes, seconds: float, pause_s: float) -> list[float]:
    """Microseconds of each answer, one after the other."""
    reader, writer = await asyncio.open_unix_connection(path)
    seen, until_s = [], time.monotonic() + seconds
    while time.monotonic() < until_s:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(length)
        seen.append((time.perf_counter() - began) * 1e6)
        await asyncio.sleep(pause_s)
    writer.close()
    return seen


async def ask_together(path: str, request: bytes) -> list[float]:
    return [one for many in await asyncio.gather(*(ask(path, request, FULL_S, 0.0) for _ in range(CALLERS))) for one in many]


def measure(name: str, shape: tuple[int, ...]) -> None:
    body = np.random.default_rng(2).random(shape).astype(np.float32).tobytes()
    head = f"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 0\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sites = [start(stack, Path(folder) / str(number), shape, share) for number, share in enumerate(SHARES)]
        for here in sites:  # the front has the candidate in its list after a second
            asyncio.run(ask(here.rest_socket, request, 1.5, PAUSE_S))
        paced: list[list[float]] = [[] for _ in SHARES]
        full: list[list[float]] = [[] for _ in SHARES]
        for _ in range(ROUNDS):
            for number, here in enumerate(sites):
                paced[number] += asyncio.run(ask(here.rest_socket, request, PACED_S, PAUSE_S))
                full[number] += asyncio.run(ask_together(here.rest_socket, request))
    for share, one, eight in zip(SHARES, paced, full):
        print(f"{name}, share {share}: one {_figures(one)}; eight {_figures(eight)}, {len(eight) / ROUNDS / FULL_S:.0f}/s", flush=True)


def _figures(seen: list[float]) -> str:
    p50, p99 = np.percentile(seen, (50, 99))
    return f"p50 {p50:.0f} us p99 {p99:.0f}"


if __name__ == "__main__":
    for name, shape in SHAPES.items():
        measure(name, shape)
