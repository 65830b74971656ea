"""A deterministic backend whose faults come on demand. Used only where a manifest's variant says `fake`.

The member is JSON:
    {"faults": [{"do": hang | segv | slow | wrong | nan | sticky | refuse | grow, "at": load | run, "after": n, "value": v, "us": t}]}
A fault of `run` acts on each call once `after` calls have passed (default 0), and, when `value` is given, only if the input's first
element equals it. `slow` takes `us` microseconds more, `grow` takes `bytes` of memory and keeps them.
"""

from __future__ import annotations

import ctypes
import json
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np

from edge_agent.inference.worker.backends import BackendError, StickyError
from edge_agent.inference.worker.slot import Tensor
from edge_agent.inference.worker.start_error import StartError

Array = Any


def version() -> str:
    return "1.0.0"


def expected(input_: Array, output_shape: Any) -> Array:
    """What the healthy fake answers: output k is the sum of every n-th input element from k on; as many outputs as inputs are an echo."""
    count = int(np.prod(output_shape))
    if count == np.size(input_):
        return np.reshape(input_, output_shape)
    flat = np.asarray(input_, dtype=np.float64).ravel()
    return np.array([flat[k::count].sum() for k in range(count)]).reshape(output_shape)


def load(member: str, input_: Tensor, output: Tensor) -> _Session:
    try:
        faults = json.loads(Path(member).read_text())["faults"]
    except (OSError, ValueError, KeyError) as broken:
        raise StartError("WORKER_MODEL", f"the fake model cannot be read: {broken!r}") from broken
    for fault in faults:
        if fault.get("at") == "load":
            _act(fault, None)
    return _Session([fault for fault in faults if fault.get("at") != "load"])


class _Session:
    compute_is_cpu = False

    def __init__(self, faults: list[dict[str, Any]]) -> None:
        self._faults, self._calls = faults, 0

    def bind(self, input_: Array, output: Array) -> Callable[[], None]:
        def compute() -> None:
            output[...] = expected(input_, output.shape)
            first, calls = float(input_.flat[0]), self._calls
            self._calls += 1
            for fault in self._faults:
                if calls >= fault.get("after", 0) and fault.get("value", first) == first:
                    _act(fault, output)

        return compute

    def close(self) -> None:
        pass


def _act(fault: dict[str, Any], output: Array) -> None:
    _ACTS[fault["do"]](fault, output)


def _hang(fault: dict[str, Any], output: Array) -> None:
    while True:
        time.sleep(3600)


def _segv(fault: dict[str, Any], output: Array) -> None:
    ctypes.string_at(0)


def _slow(fault: dict[str, Any], output: Array) -> None:
    time.sleep(fault["us"] / 1e6)


def _wrong(fault: dict[str, Any], output: Array) -> None:
    output[...] = output[..., ::-1] + 1


def _nan(fault: dict[str, Any], output: Array) -> None:
    output.flat[0] = np.nan


def _sticky(fault: dict[str, Any], output: Array) -> None:
    raise StickyError("as asked")


def _refuse(fault: dict[str, Any], output: Array) -> None:
    raise BackendError("as asked")


def _grow(fault: dict[str, Any], output: Array) -> None:
    _grown.append(np.ones(fault["bytes"], np.uint8))


_grown: list[Array] = []
_ACTS = {
    "hang": _hang, "segv": _segv, "slow": _slow, "wrong": _wrong, "nan": _nan, "sticky": _sticky, "refuse": _refuse, "grow": _grow,
}  # fmt: skip
