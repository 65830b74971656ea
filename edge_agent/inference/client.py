"""A client of one seat of an arena: standard library and numpy, clean for Python 3.8.

One thread, one `Client` per seat. Several requests may be in flight, to different arenas too: `submit` both, then `collect` both.
"""

from __future__ import annotations

import mmap
import os
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.errors import error
from edge_agent.inference import wire
from edge_agent.inference.wire import CellState, Geometry, Status, Word

DTYPES: Mapping[str, str] = {"f32": "<f4", "f16": "<f2", "i8": "i1", "u8": "u1", "i32": "<i4", "i64": "<i8"}

Array = Any  # numpy.ndarray: 1.24 (Python 3.8) cannot say more


@dataclass(frozen=True)
class Ticket:
    """A request on its way: the cell it lies in and its number there."""

    index: int
    seq: int
    deadline_ns: int


@dataclass(frozen=True)
class Answer:
    """`output` is a copy. `compute_us` is the worker's compute time; `finite` is False when the output holds NaN or infinity."""

    output: Array
    finite: bool
    compute_us: float
    queue_us: float  # from submit to the start of computing


class Client:
    """Attach to a seat; cells that a predecessor left there are taken back as the worker finishes them.

    Takes over the three descriptors: `close` closes them.
    """

    def __init__(
        self, arena: Mapping[str, Any], input_: Mapping[str, Any], output: Mapping[str, Any], descriptors: tuple[int, int, int]
    ) -> None:
        """`arena`, `input_`, `output` as in a `route` of contracts/pipeline.py. Raises ValueError when the memory is no such arena."""
        self._memfd, self._request_fd, self._response_fd = descriptors
        self._geometry = Geometry.from_dict(arena)
        self._memory = mmap.mmap(self._memfd, self._geometry.total_bytes)
        if wire.read_geometry(self._memory) != self._geometry:
            raise ValueError("the arena's header says another geometry")
        self._shape, self._dtype = tuple(input_["shape"]), np.dtype(DTYPES[input_["dtype"]])
        out_shape, out_dtype = tuple(output["shape"]), np.dtype(DTYPES[output["dtype"]])
        self._cells: list[int] = list(self._geometry.seat(int(arena.get("seat", 0))))
        self._inputs = {i: self._view(i, self._geometry.input_offset, self._shape, self._dtype) for i in self._cells}
        self._outputs = {i: self._view(i, self._geometry.output_offset, out_shape, out_dtype) for i in self._cells}
        self._waiting: dict[int, int] = {}  # cell -> seq of the ticket that is not collected yet
        self._seq = max(self._cell(i).seq for i in self._cells)
        self._poll = select.poll()
        self._poll.register(self._response_fd, select.POLLIN)

    def infer(self, values: Array, timeout_s: float) -> Answer:
        """Submit and collect. Raises as both."""
        return self.collect(self.submit(values, time.monotonic_ns() + int(timeout_s * 1e9)))

    def submit(self, values: Array, deadline_ns: int) -> Ticket:
        """Write a request and wake the worker; `deadline_ns` is CLOCK_MONOTONIC: after it the worker does not begin.

        Raises RejectedError ARENA_SHAPE, TransientError ARENA_BUSY.
        """
        if values.shape != self._shape or values.dtype != self._dtype:
            raise error("ARENA_SHAPE", f"{values.dtype} {values.shape}", f"the cell holds {self._dtype} {self._shape}")
        index = self._claim()
        offset = self._geometry.cell(index)
        self._seq += 1
        self._inputs[index][...] = values
        wire.write_request(self._memory, offset, self._seq, deadline_ns, time.monotonic_ns())
        wire.set_state(self._memory, offset, CellState.REQUESTED)
        self._waiting[index] = self._seq
        wire.signal(self._request_fd)
        return Ticket(index, self._seq, deadline_ns)

    def collect(self, ticket: Ticket) -> Answer:
        """Wait for the answer until the ticket's deadline.

        Raises TransientError ARENA_TIMEOUT, LocalFaultError WORKER_CRASH (it died computing this), RejectedError WORKER_MODEL.
        """
        while True:
            wire.drain(self._response_fd)  # before the look, so that an answer after the look wakes us
            cell = self._cell(ticket.index)
            if cell.state in (CellState.DONE, CellState.FAILED):
                return self._take(ticket, cell)
            left_ms = (ticket.deadline_ns - time.monotonic_ns()) / 1e6
            if left_ms <= 0:
                del self._waiting[ticket.index]  # the cell stays the worker's until it answers
                raise error("ARENA_TIMEOUT", f"cell {ticket.index}")
            self._poll.poll(left_ms)

    def worker_pid(self) -> int:
        """0 while there is no worker."""
        return wire.word(self._memory, Word.PID)

    def close(self) -> None:
        self._inputs.clear()
        self._outputs.clear()
        self._memory.close()
        for descriptor in (self._memfd, self._request_fd, self._response_fd):
            os.close(descriptor)

    def _claim(self) -> int:
        for index in self._cells:
            if index in self._waiting:
                continue
            offset = self._geometry.cell(index)
            state = wire.state(self._memory, offset)
            if state in (CellState.DONE, CellState.FAILED):  # given up earlier, answered meanwhile
                wire.set_state(self._memory, offset, CellState.FREE)
                state = CellState.FREE
            if state == CellState.FREE:
                return index
        raise error("ARENA_BUSY", f"{len(self._cells)} cells")

    def _take(self, ticket: Ticket, cell: wire.Cell) -> Answer:
        wire.fence()
        del self._waiting[ticket.index]
        output = self._outputs[ticket.index].copy() if cell.state == CellState.DONE else None
        wire.set_state(self._memory, self._geometry.cell(ticket.index), CellState.FREE)
        if cell.seq != ticket.seq:
            raise AssertionError(f"cell {ticket.index} holds request {cell.seq}, not {ticket.seq}")
        if output is None:
            raise _FAILURES[Status(cell.status)](f"cell {ticket.index}")
        return Answer(output, cell.status == Status.OK, (cell.t2_ns - cell.t1_ns) / 1e3, (cell.t1_ns - cell.t0_ns) / 1e3)

    def _cell(self, index: int) -> wire.Cell:
        return wire.read_cell(self._memory, self._geometry.cell(index))

    def _view(self, index: int, offset: int, shape: tuple[int, ...], dtype: Any) -> Array:
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._memory, dtype, count, self._geometry.cell(index) + offset).reshape(shape)


_FAILURES = {
    Status.EXPIRED: lambda thing: error("ARENA_TIMEOUT", thing, "the worker was free only after the deadline"),
    Status.RESTARTED: lambda thing: error("WORKER_CRASH", thing, "the worker died while it computed this"),
    Status.BACKEND: lambda thing: error("WORKER_MODEL", thing, "the backend refused this input"),
}
