"""`python -m edge_agent.inference.worker`: serve an arena, evaluate a file of inputs, or say which backends there are.

One JSON line goes to the control descriptor:
    {"event": "ready" | "evaluated", "figures": {...}}   after `ready` it is closed and the worker serves
    {"event": "failed", "code", "detail", "figures"}
    {"event": "probed", "backends": {name: version}}
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.inference import exits
from edge_agent.inference.tether import tie_to_parent
from edge_agent.inference.worker import backends
from edge_agent.inference.worker.backends import StickyError
from edge_agent.inference.worker.batch import BatchServer
from edge_agent.inference.worker.budget import Budget
from edge_agent.inference.worker.selftest import Runner, self_test
from edge_agent.inference.worker.serve import Server
from edge_agent.inference.worker.slot import Slot, open_slot
from edge_agent.inference.worker.start_error import StartError

EXIT_OK, EXIT_FAILED = 0, 1
_STDOUT = 1


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.parent_pid:
        tie_to_parent(options.parent_pid)
    signal.signal(signal.SIGTERM, _end)
    if options.probe:
        _report(options.control_fd, {"event": "probed", "python": platform.python_version(), "backends": backends.versions()})
        return EXIT_OK
    try:
        return _evaluate(options) if options.evaluate else _serve(options)
    except StartError as failed:
        return _failed(options, failed)
    except MemoryError as full:
        return _failed(options, StartError("BUNDLE_LIMITS", f"more memory than the manifest states: {full}"))
    except StickyError as sick:
        _failed(options, StartError("WORKER_START", f"the backend's device failed: {sick}"))  # which says nothing about the bundle
        os._exit(exits.STICKY)


def _serve(options: argparse.Namespace) -> int:
    began = time.monotonic()
    np.seterr(invalid="ignore")  # infinity times zero is a question that serve.finite_check asks
    slot = open_slot(options.slot, options.variant)
    server = _server(slot, options)
    budget = Budget(slot.manifest["limits"]["memory_bytes"])
    session = backends.load(slot)
    loaded_s = time.monotonic() - began
    figures = self_test(slot, session)
    server.bind(session)
    server.take_over()
    budget.ready()
    figures.update(_origin(slot.backend), load_s=round(loaded_s, 3), start_s=round(time.monotonic() - began, 3))
    _report(options.control_fd, {"event": "ready", "figures": figures})
    os.close(options.control_fd)
    try:
        server.serve(budget.leaked)
    except MemoryError:  # in our own loop: not even that has room
        os._exit(exits.MEMORY)
    return EXIT_OK


def _server(slot: Slot, options: argparse.Namespace) -> Server:
    descriptors = options.arena_fd, options.page_fd, options.request_fd, [int(number) for number in options.response_fds.split(",")]
    if options.batch_delay_us is None:
        return Server(slot, *descriptors, options.spin_us)
    return BatchServer(slot, *descriptors, options.spin_us, options.batch_delay_us)


def _evaluate(options: argparse.Namespace) -> int:
    """Run every input of a .npy file once and write the outputs beside: how a builder measures a model on the real worker."""
    source, target = options.evaluate
    slot = open_slot(options.slot, options.variant)
    runner = Runner(slot, backends.load(slot))
    inputs = np.load(source, allow_pickle=False).astype(slot.input.dtype, copy=False)
    if inputs.shape[1:] != slot.input.shape[1:] or not len(inputs):
        raise StartError("BUNDLE_SELF_TEST", f"inputs are {inputs.shape}, the model takes (n, {slot.input.shape[1:]})")
    np.save(target, runner.run(inputs), allow_pickle=False)
    _report(options.control_fd, {"event": "evaluated", "figures": {**runner.figures(), **_origin(slot.backend), "samples": len(inputs)}})
    return EXIT_OK


def _failed(options: argparse.Namespace, failed: StartError) -> int:
    _report(options.control_fd, {"event": "failed", "code": failed.code, "detail": failed.detail, "figures": failed.figures})
    return EXIT_FAILED


def _origin(backend: str) -> dict[str, Any]:
    return {"backend": backend, "backend_version": backends.backend(backend).version(), "python": platform.python_version()}


def _report(descriptor: int, message: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(message).encode() + b"\n")


def _end(number: int, frame: Any) -> None:
    raise SystemExit(EXIT_OK)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry-worker", description="one model version behind one arena")
    parser.add_argument("--slot", type=Path, help="folder with manifest.json and the members")
    parser.add_argument("--variant", type=int, default=0, help="index in the manifest's variants (default 0)")
    parser.add_argument("--parent-pid", type=int, default=0, help="die with this process; 0 = stand alone")
    parser.add_argument("--arena-fd", type=int)
    parser.add_argument("--page-fd", type=int, help="the page by which the agent judges us")
    parser.add_argument("--request-fd", type=int)
    parser.add_argument("--response-fds", help="one eventfd per seat, comma-separated")
    parser.add_argument("--spin-us", type=int, default=0, help="look this long for a request before each wait (default 0)")
    parser.add_argument("--batch-delay-us", type=int, help="cells hold one row; gather rows this long (default: no batching)")
    parser.add_argument("--control-fd", type=int, default=_STDOUT, help="where the one report goes (default: standard output)")
    parser.add_argument("--evaluate", nargs=2, metavar=("IN.npy", "OUT.npy"), help="run inputs once and end")
    parser.add_argument("--probe", action="store_true", help="report the installed backends and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
