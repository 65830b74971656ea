"""Backends behind one Protocol. They are imported by name, and only the one that is asked for: a binding may crash its interpreter."""

from __future__ import annotations

from typing import Any, Callable, Protocol

from edge_agent.inference.worker.slot import Slot, Tensor
from edge_agent.inference.worker.start_error import StartError

Array = Any


class StickyError(Exception):
    """The backend's context is poisoned (a CUDA fault): every later call fails, so the process must end at once."""


class BackendError(Exception):
    """The backend refused one input and goes on."""


class Session(Protocol):
    """A loaded model."""

    compute_is_cpu: bool  # then CPU time of the calling thread measures the model, whatever else runs on the board

    def bind(self, input_: Array, output: Array) -> Callable[[], None]:
        """A function that computes `output` from what then lies in `input_`, in place; both live as long as it does.

        The function raises BackendError or StickyError. Copies are made only where the backend cannot work in place.
        """

    def close(self) -> None: ...


class Backend(Protocol):
    """Two functions of a module."""

    def version(self) -> str:
        """`major.minor.patch`; raises ImportError when it is not installed."""

    def load(self, member: str, input_: Tensor, output: Tensor) -> Session:
        """Raises StartError WORKER_MODEL."""


def backend(name: str) -> Backend:
    """Raises StartError WORKER_MODEL for a backend that this worker does not have."""
    if name == "onnxruntime":
        from edge_agent.inference.worker.backends import onnxruntime_cpu  # noqa: PLC0415  only the backend that is asked for

        return onnxruntime_cpu
    if name == "fake":
        from edge_agent.inference.worker.backends import fake  # noqa: PLC0415  the same

        return fake
    raise StartError("WORKER_MODEL", f"this worker has no backend {name!r}")


NAMES = ("onnxruntime", "fake")


def versions() -> dict[str, str]:
    """Installed backends and their versions. Runs in a process of its own, since importing a binding may end it."""
    found = {}
    for name in NAMES:
        try:
            found[name] = backend(name).version()
        except (ImportError, StartError):
            continue
    return found


def load(slot: Slot) -> Session:
    """The session of the slot's variant. Raises StartError WORKER_MODEL."""
    try:
        return backend(slot.backend).load(str(slot.member), slot.input, slot.output)
    except ImportError as missing:
        raise StartError("WORKER_MODEL", f"{slot.backend} is not installed: {missing}") from missing
