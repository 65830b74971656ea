"""The worker's loop over its arena's cells: wire.py says who may move which state."""

from __future__ import annotations

import mmap
import os
import select
import time
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from edge_agent.inference import exits, wire
from edge_agent.inference.spin import Spin
from edge_agent.inference.wire import CellState, Status, Word, WorkerState
from edge_agent.inference.worker.backends import BackendError, Session, StickyError
from edge_agent.inference.worker.slot import Slot, Tensor
from edge_agent.inference.worker.start_error import StartError

Array = Any
HEARTBEAT_MS = 500
_REQUESTED = int(CellState.REQUESTED)  # an int is found in bytes faster than an enum's member


class Cell(NamedTuple):
    """What answering a cell needs, looked up once: the caches are cold after a model has run, and each look-up is on the answer's way."""

    cell_no: int
    header: int
    result: int
    response_fd: int
    compute: Callable[[], None]
    finite: Callable[[], bool]


class Server:
    def __init__(self, slot: Slot, arena_fd: int, page_fd: int, request_fd: int, response_fds: Sequence[int], spin_us: int = 0) -> None:
        """Raises StartError BUNDLE_SELF_TEST when the arena does not fit the slot. `spin_us`: how long to look before each wait."""
        self._memory, self._page = mmap.mmap(arena_fd, 0), mmap.mmap(page_fd, 0)
        self._geometry = wire.read_geometry(self._page)  # no client can have written there
        if (self._geometry.input_bytes, self._geometry.output_bytes) != (slot.input.size_bytes, slot.output.size_bytes):
            raise StartError("BUNDLE_SELF_TEST", "the arena was made for other tensors")
        self._slot, self._request_fd, self._response_fds = slot, request_fd, response_fds
        self._spin = Spin(spin_us)
        self._served = wire.word(self._page, Word.SERVED)
        self._cells: list[Cell] = []
        self._leaked: Callable[[], bool] = lambda: False
        self._say(Word.PID, os.getpid())
        self._say(Word.STATE, WorkerState.STARTING)
        wire.set_word(self._page, Word.STARTS, wire.word(self._page, Word.STARTS) + 1)

    def bind(self, session: Session) -> None:
        """Bind the session to each cell's areas, so that a request moves no bytes."""
        self._bind_cells(session.bind)

    def _bind_cells(self, bind: Callable[[Array, Array], Callable[[], None]]) -> None:
        zeros = np.zeros(self._slot.output.shape, self._slot.output.dtype).ravel()
        for index in range(self._geometry.cells):
            input_ = self._view(self._geometry.input(index), self._slot.input)
            output = self._view(self._geometry.output(index), self._slot.output)
            response_fd = self._response_fds[self._geometry.seat_of(index)]
            header = self._geometry.header(index)
            finite = finite_check(output, zeros)
            self._cells.append(Cell(index, header, header + wire.RESULT_OFFSET, response_fd, bind(input_, output), finite))

    def take_over(self) -> None:
        """Fail what the predecessor died of; then we are ready."""
        for index in wire.find(self._memory, self._geometry.cells, CellState.BUSY):
            now = time.monotonic_ns()
            self._publish(self._cells[index], CellState.FAILED, Status.RESTARTED, now, now)
        for response_fd in self._response_fds:  # it may have died between an answer and its signal
            wire.signal(response_fd)
        self._beat()
        self._say(Word.STATE, WorkerState.READY)

    def serve(self, leaked: Callable[[], bool]) -> None:
        """Until the process is ended. Cells that were REQUESTED before we came are served first.

        `leaked`: what a refused input has left behind is too much to go on with.
        """
        self._leaked = leaked
        poll = select.poll()
        poll.register(self._request_fd, select.POLLIN)
        woken = False
        while True:
            announced = not self.step() and woken
            if not (announced and self._spin(self._asked)):
                woken = bool(poll.poll(HEARTBEAT_MS))

    def _asked(self) -> bool:
        return wire.count(self._memory, self._geometry.cells, _REQUESTED) > 0

    def step(self) -> bool:
        """Answer what is requested now; whether there was something."""
        wire.drain(self._request_fd)  # before the look, so that a request after the look wakes us
        self._beat()
        served = False
        while waiting := self._waiting():  # a new look each time: a request of high priority may have come meanwhile
            self._answer_next(waiting)
            self._beat()
            served = True
        return served

    def _waiting(self) -> list[int]:
        return wire.find(self._memory, self._geometry.cells, _REQUESTED)

    def _answer_next(self, waiting: list[int]) -> None:
        """What is too late or cancelled, so that it leaves the queue; then by priority, then the oldest, over all seats."""
        self._answer(self._cells[min(waiting, key=self._order) if len(waiting) > 1 else waiting[0]])

    def _order(self, index: int) -> tuple[bool, int, int]:
        header = wire.read_header(self._memory, self._cells[index].header)
        return header.deadline_ns >= time.monotonic_ns(), header.priority, header.t0_ns

    def _answer(self, cell: Cell) -> None:
        started = time.monotonic_ns()
        if not self._begin(cell, started):
            return
        if self._run(cell.compute):
            self._done(cell, started, time.monotonic_ns())
        else:
            self._publish(cell, CellState.FAILED, Status.BACKEND, started, time.monotonic_ns())

    def _begin(self, cell: Cell, now_ns: int) -> bool:
        """Take up a request, unless its deadline has passed."""
        wire.fence()
        if wire.deadline(self._memory, cell.header) < now_ns:
            self._publish(cell, CellState.FAILED, Status.EXPIRED, now_ns, now_ns)
            return False
        wire.set_state(self._memory, cell.cell_no, CellState.BUSY)
        return True

    def _run(self, compute: Callable[[], None]) -> bool:
        """False when the backend refuses this input, or has no memory for it."""
        try:
            compute()
        except (BackendError, MemoryError):
            if self._leaked():
                os._exit(exits.MEMORY)  # the next process begins with all of its budget
            return False
        except StickyError:
            os._exit(exits.STICKY)  # nothing of this process can be trusted any more, its clean-up included
        return True

    def _done(self, cell: Cell, started: int, ended: int) -> None:
        self._served += 1  # told with the next heartbeat
        self._publish(cell, CellState.DONE, Status.OK if cell.finite() else Status.NOT_FINITE, started, ended)

    def _publish(self, cell: Cell, state: CellState, status: Status, started: int, ended: int) -> None:
        wire.write_result(self._memory, cell.result, status, started, ended, time.monotonic_ns())
        wire.set_state(self._memory, cell.cell_no, state)
        wire.signal(cell.response_fd)

    def _beat(self) -> None:
        wire.beat(self._page, time.monotonic_ns(), self._served)

    def _say(self, which: Word, value: int) -> None:
        wire.set_word(self._memory, which, value)

    def _view(self, offset: int, tensor: Tensor) -> Array:
        count = int(np.prod(tensor.shape, dtype=np.int64))
        return np.frombuffer(self._memory, tensor.dtype, count, offset).reshape(tensor.shape)


def finite_check(output: Array, zeros: Array) -> Callable[[], bool]:
    """A function that says whether `output` is free of NaN and infinity: either times zero is NaN. A third of the time of isfinite."""
    if output.dtype.kind != "f":
        return lambda: True
    dot = output.reshape(-1).dot
    return lambda: bool(dot(zeros) == 0)
