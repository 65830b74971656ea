"""A worker that gathers requests of one row into the batch that its model takes. Off unless the agent asks for it.

A model whose first dimension is n computes n rows for little more than the price of one on some backends. Cells then hold one row; the
worker waits for more rows, but never longer than `delay_us` after the oldest request, and fills what is missing with zeros.
"""

from __future__ import annotations

import select
import time
from dataclasses import replace
from typing import Any, Callable, Sequence

import numpy as np

from edge_agent.inference import wire
from edge_agent.inference.wire import CellState, Status
from edge_agent.inference.worker.backends import Session
from edge_agent.inference.worker.serve import Cell, Server
from edge_agent.inference.worker.slot import Slot, Tensor

Array = Any
MARGIN_NS = 1_000_000  # for waking up, copying the rows and telling


class BatchServer(Server):
    def __init__(
        self, slot: Slot, arena_fd: int, page_fd: int, request_fd: int, response_fds: Sequence[int], spin_us: int = 0, delay_us: int = 0
    ) -> None:
        """`slot` has the model's shapes, the arena those of one row. Raises as Server."""
        rows = replace(slot, input=one_row(slot.input), output=one_row(slot.output))
        super().__init__(rows, arena_fd, page_fd, request_fd, response_fds, spin_us)
        self._rows, self._delay_ns = slot.input.shape[0], delay_us * 1000
        self._inputs, self._outputs = (np.zeros(tensor.shape, tensor.dtype) for tensor in (slot.input, slot.output))
        self._views: list[tuple[Array, Array]] = []
        self._compute: Callable[[], None] = _nothing
        self._run_ns = 0  # of the last batch
        self.margin_ns = MARGIN_NS

    def bind(self, session: Session) -> None:
        self._compute = session.bind(self._inputs, self._outputs)
        self._bind_cells(self._remember)

    def _remember(self, input_: Array, output: Array) -> Callable[[], None]:
        self._views.append((input_, output))
        return _nothing

    def _answer_next(self, waiting: list[int]) -> None:
        started = self._gather(waiting)
        chosen = sorted(self._waiting(), key=self._order)[: self._rows]
        cells = [self._cells[index] for index in chosen if self._begin(self._cells[index], started)]
        if cells:
            self._answer_all(cells)

    def _gather(self, waiting: list[int]) -> int:
        """Wait for more rows than `waiting` as long as the oldest may, and every deadline lets us; what time it is then."""
        oldest_ns = min(wire.read_header(self._memory, self._cells[index].header).t0_ns for index in waiting)
        until_ns = min(oldest_ns, time.monotonic_ns()) + self._delay_ns  # whatever a client wrote there
        while len(waiting) < self._rows:
            now_ns = time.monotonic_ns()
            left_ns = min(until_ns, self._last_begin_ns(waiting, now_ns)) - now_ns
            if left_ns <= 0:
                break
            select.select([self._request_fd], [], [], left_ns / 1e9)  # poll would round up to a millisecond
            wire.drain(self._request_fd)
            waiting = self._waiting()
        return time.monotonic_ns()

    def _last_begin_ns(self, waiting: list[int], now_ns: int) -> float:
        """When a batch has to begin so that it is done before the next deadline."""
        deadlines = (wire.deadline(self._memory, self._cells[index].header) for index in waiting)
        return min((one for one in deadlines if one >= now_ns), default=float("inf")) - self._run_ns - self.margin_ns

    def _answer_all(self, cells: list[Cell]) -> None:
        for row, cell in enumerate(cells):
            self._inputs[row] = self._views[cell.cell_no][0][0]
        self._inputs[len(cells) :] = 0  # not what another client asked earlier
        started = time.monotonic_ns()
        computed, ended = self._run(self._compute), time.monotonic_ns()
        self._run_ns = ended - started
        for row, cell in enumerate(cells):
            if computed:
                self._views[cell.cell_no][1][0] = self._outputs[row]
                self._done(cell, started, ended)
            else:
                self._publish(cell, CellState.FAILED, Status.BACKEND, started, ended)


def one_row(tensor: Tensor) -> Tensor:
    return replace(tensor, shape=(1, *tensor.shape[1:]))


def _nothing() -> None:
    """A cell of a batch has no computing of its own."""
