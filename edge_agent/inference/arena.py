"""The agent's side of the arena: makes the shared memory and the eventfds, hands out descriptors, reads figures. Never touches tensors."""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import time
from contextlib import ExitStack

from contracts.manifest import TensorSpec
from edge_agent.inference import wire

MEMORY_BYTES = 64 * 1024**2  # an arena for large tensors has fewer cells
LEAST_CELLS_PER_SEAT = 2
DTYPE_BYTES = {"f32": 4, "f16": 2, "i8": 1, "u8": 1, "i32": 4, "i64": 8}


def tensor_bytes(spec: TensorSpec) -> int:
    return math.prod(spec.shape) * DTYPE_BYTES[spec.dtype]


def one_row(spec: TensorSpec) -> TensorSpec:
    """Of a tensor whose first dimension counts rows."""
    return spec.model_copy(update={"shape": (1, *spec.shape[1:])})


def cells_within(memory_bytes: int, cell_bytes: int, seats: int, wanted: int) -> int:
    """Cells per seat: as many as wanted, as long as all of them stay within `memory_bytes`; two at least."""
    return max(min(wanted, LEAST_CELLS_PER_SEAT), min(wanted, memory_bytes // (seats * cell_bytes)))


def geometry_for(input_: TensorSpec, output: TensorSpec, seats: int, cells_per_seat: int) -> wire.Geometry:
    """`cells_per_seat` or fewer."""
    sizes = tensor_bytes(input_), tensor_bytes(output)
    one = wire.Geometry.of(*sizes, seats=1, cells_per_seat=1)
    return wire.Geometry.of(*sizes, seats, cells_within(MEMORY_BYTES, one.cell_bytes, seats, cells_per_seat))


class Arena:
    """Owns until `close`: the memory of the cells, one request eventfd, one response eventfd per seat, and the worker's page.

    By that page the agent judges the worker, since whoever has a seat can write into the memory of the cells.
    """

    def __init__(self, geometry: wire.Geometry) -> None:
        """Raises OSError when there is no descriptor or memory left."""
        self.geometry = geometry
        with ExitStack() as undo:
            self.memfd = _owned(undo, os.memfd_create("skerry-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
            os.ftruncate(self.memfd, geometry.total_bytes)
            # Nobody who holds the descriptor can shrink it: that would be a SIGBUS for all others.
            fcntl.fcntl(self.memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self.page_fd = _owned(undo, os.memfd_create("skerry-worker", os.MFD_CLOEXEC))
            os.ftruncate(self.page_fd, wire.PAGE_BYTES)
            self.request_fd = _owned(undo, _eventfd())
            self.response_fds = tuple(_owned(undo, _eventfd()) for _ in range(geometry.seats))
            self._memory = mmap.mmap(self.memfd, geometry.total_bytes)
            self._page = mmap.mmap(self.page_fd, wire.PAGE_BYTES)
            for memory in (self._memory, self._page):
                wire.write_geometry(memory, geometry)
            undo.pop_all()

    @classmethod
    def for_tensors(cls, input_: TensorSpec, output: TensorSpec, seats: int, cells_per_seat: int) -> Arena:
        return cls(geometry_for(input_, output, seats, cells_per_seat))

    def descriptors(self, seat: int) -> tuple[int, int, int]:
        """[memfd, request eventfd, response eventfd] of a seat's client."""
        return self.memfd, self.request_fd, self.response_fds[seat]

    def occupied(self) -> int:
        """Cells that wait for the worker or are being computed."""
        states = (wire.CellState.REQUESTED, wire.CellState.BUSY)
        return sum(wire.count(self._memory, self.geometry.cells, state) for state in states)

    def cancel(self, seat: int) -> None:
        """The client of this seat is gone: what the worker has not begun, it need not begin."""
        for index in self.geometry.seat(seat):
            wire.cancel(self._memory, self.geometry.header(index))
        wire.signal(self.request_fd)  # the client may have died between its request and its signal

    def settle(self, seat: int) -> bool:
        """In place of a client that is gone: free what is answered. True when the worker has nothing of this seat any more."""
        wire.drain(self.response_fds[seat])  # before the look, so that an answer after the look wakes us
        return all([self._free(index) for index in self.geometry.seat(seat)])

    def _free(self, index: int) -> bool:
        state = wire.state(self._memory, index)
        if state in (wire.CellState.DONE, wire.CellState.FAILED):
            wire.set_state(self._memory, index, wire.CellState.FREE)
        return state not in (wire.CellState.REQUESTED, wire.CellState.BUSY)

    def word(self, which: wire.Word) -> int:
        """Of the worker's page."""
        return wire.word(self._page, which)

    def close_to_requests(self) -> None:
        """Clients see it at their next request, without a call."""
        wire.set_word(self._memory, wire.Word.CLOSED, 1)

    def mark_absent(self) -> None:
        """The worker is gone; its successor will say otherwise."""
        wire.set_word(self._memory, wire.Word.STATE, wire.WorkerState.ABSENT)
        wire.set_word(self._memory, wire.Word.PID, 0)

    def silent_s(self) -> float:
        """Seconds since the worker's last heartbeat."""
        return (time.monotonic_ns() - self.word(wire.Word.HEARTBEAT_NS)) / 1e9

    def close(self) -> None:
        self._memory.close()
        self._page.close()
        for descriptor in (self.memfd, self.page_fd, self.request_fd, *self.response_fds):
            os.close(descriptor)


def _owned(undo: ExitStack, descriptor: int) -> int:
    undo.callback(os.close, descriptor)
    return descriptor


def _eventfd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
