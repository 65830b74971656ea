"""The agent's side of the arena: makes the shared memory and the eventfds, hands out descriptors, reads figures. Never touches tensors."""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import time

from contracts.manifest import TensorSpec
from edge_agent.inference import wire

DTYPE_BYTES = {"f32": 4, "f16": 2, "i8": 1, "u8": 1, "i32": 4, "i64": 8}


def tensor_bytes(spec: TensorSpec) -> int:
    return math.prod(spec.shape) * DTYPE_BYTES[spec.dtype]


class Arena:
    """Owns one memfd, one request eventfd and one response eventfd per seat until `close`."""

    def __init__(self, geometry: wire.Geometry) -> None:
        self.geometry = geometry
        self.memfd = os.memfd_create("skerry-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memfd, geometry.total_bytes)
        # Nobody who holds the descriptor can shrink it: that would be a SIGBUS for all others.
        fcntl.fcntl(self.memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.request_fd = _eventfd()
        self.response_fds = tuple(_eventfd() for _ in range(geometry.seats))
        self._memory = mmap.mmap(self.memfd, geometry.total_bytes)
        wire.write_geometry(self._memory, geometry)

    @classmethod
    def for_tensors(cls, input_: TensorSpec, output: TensorSpec, seats: int, cells_per_seat: int) -> Arena:
        return cls(wire.Geometry.of(tensor_bytes(input_), tensor_bytes(output), seats, cells_per_seat))

    def descriptors(self, seat: int) -> tuple[int, int, int]:
        """[memfd, request eventfd, response eventfd] of a seat's client."""
        return self.memfd, self.request_fd, self.response_fds[seat]

    def occupied(self) -> int:
        """Cells that wait for the worker or are being computed."""
        return sum(self._state(i) in (wire.CellState.REQUESTED, wire.CellState.BUSY) for i in range(self.geometry.cells))

    def word(self, which: wire.Word) -> int:
        return wire.word(self._memory, which)

    def mark_absent(self) -> None:
        """The worker is gone; its successor will say otherwise."""
        wire.set_word(self._memory, wire.Word.STATE, wire.WorkerState.ABSENT)
        wire.set_word(self._memory, wire.Word.PID, 0)

    def silent_s(self) -> float:
        """Seconds since the worker's last heartbeat."""
        return (time.monotonic_ns() - self.word(wire.Word.HEARTBEAT_NS)) / 1e9

    def close(self) -> None:
        self._memory.close()
        for descriptor in (self.memfd, self.request_fd, *self.response_fds):
            os.close(descriptor)

    def _state(self, index: int) -> int:
        return wire.state(self._memory, self.geometry.cell(index))


def _eventfd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
