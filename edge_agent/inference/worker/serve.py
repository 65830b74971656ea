"""The worker's loop over its arena's cells: wire.py says who may move which state."""

from __future__ import annotations

import mmap
import os
import select
import time
from typing import Any, Callable, Sequence

import numpy as np

from edge_agent.inference import wire
from edge_agent.inference.wire import CellState, Status, Word, WorkerState
from edge_agent.inference.worker.backends import BackendError, Session, StickyError
from edge_agent.inference.worker.slot import Slot, Tensor
from edge_agent.inference.worker.start_error import StartError

Array = Any
HEARTBEAT_MS = 500
EXIT_STICKY = 70


class Server:
    def __init__(self, slot: Slot, arena_fd: int, request_fd: int, response_fds: Sequence[int]) -> None:
        """Raises StartError BUNDLE_SELF_TEST when the arena does not fit the slot."""
        self._memory = mmap.mmap(arena_fd, 0)
        self._geometry = wire.read_geometry(self._memory)
        if (self._geometry.input_bytes, self._geometry.output_bytes) != (slot.input.size_bytes, slot.output.size_bytes):
            raise StartError("BUNDLE_SELF_TEST", "the arena was made for other tensors")
        self._slot, self._request_fd, self._response_fds = slot, request_fd, response_fds
        self._headers = [self._geometry.header(index) for index in range(self._geometry.cells)]
        self._computes: list[Callable[[], None]] = []
        self._outputs: list[Array] = []
        self._say(Word.PID, os.getpid())
        self._say(Word.STATE, WorkerState.STARTING)
        self._say(Word.STARTS, wire.word(self._memory, Word.STARTS) + 1)

    def bind(self, session: Session) -> None:
        """Bind the session to each cell's areas, so that a request moves no bytes."""
        for index in range(self._geometry.cells):
            input_ = self._view(self._geometry.input(index), self._slot.input)
            output = self._view(self._geometry.output(index), self._slot.output)
            self._computes.append(session.bind(input_, output))
            self._outputs.append(output)

    def take_over(self) -> None:
        """Fail what the predecessor died of; then we are ready."""
        for index in wire.find(self._memory, self._geometry.cells, CellState.BUSY):
            now = time.monotonic_ns()
            self._publish(index, CellState.FAILED, Status.RESTARTED, (now, now))
        self._beat()
        self._say(Word.STATE, WorkerState.READY)

    def serve(self) -> None:
        """Until the process is ended. Cells that were REQUESTED before we came are served first."""
        poll = select.poll()
        poll.register(self._request_fd, select.POLLIN)
        while True:
            self.step()
            poll.poll(HEARTBEAT_MS)

    def step(self) -> None:
        """Answer what is requested now."""
        wire.drain(self._request_fd)  # before the look, so that a request after the look wakes us
        waiting = self._requested()
        while waiting:
            self._answer(waiting[0])
            self._beat()
            waiting = self._requested()  # anew each time: a request of high priority may have come meanwhile
        self._beat()

    def _requested(self) -> list[int]:
        """By priority, then oldest first, over all seats."""
        waiting = wire.find(self._memory, self._geometry.cells, CellState.REQUESTED)
        return sorted(waiting, key=self._order) if len(waiting) > 1 else waiting

    def _order(self, index: int) -> tuple[int, int]:
        cell = self._cell(index)
        return cell.priority, cell.t0_ns

    def _answer(self, index: int) -> None:
        wire.fence()
        started = time.monotonic_ns()
        if self._cell(index).deadline_ns < started:
            self._publish(index, CellState.FAILED, Status.EXPIRED, (started, started))
            return
        wire.set_state(self._memory, index, CellState.BUSY)
        status = self._compute(index)
        ended = time.monotonic_ns()
        if status == Status.OK and not _finite(self._outputs[index]):
            status = Status.NOT_FINITE
        done = CellState.FAILED if status == Status.BACKEND else CellState.DONE
        self._publish(index, done, status, (started, ended))

    def _compute(self, index: int) -> Status:
        try:
            self._computes[index]()
        except BackendError:
            return Status.BACKEND
        except StickyError:
            os._exit(EXIT_STICKY)  # nothing of this process can be trusted any more, its clean-up included
        return Status.OK

    def _publish(self, index: int, state: CellState, status: Status, computed: tuple[int, int]) -> None:
        wire.write_result(self._memory, self._headers[index], status, (*computed, time.monotonic_ns()))
        self._say(Word.SERVED, wire.word(self._memory, Word.SERVED) + (state == CellState.DONE))
        wire.set_state(self._memory, index, state)
        wire.signal(self._response_fds[self._geometry.seat_of(index)])

    def _beat(self) -> None:
        self._say(Word.HEARTBEAT_NS, time.monotonic_ns())

    def _say(self, which: Word, value: int) -> None:
        wire.set_word(self._memory, which, value)

    def _cell(self, index: int) -> wire.Cell:
        return wire.read_cell(self._memory, self._headers[index])

    def _view(self, offset: int, tensor: Tensor) -> Array:
        count = int(np.prod(tensor.shape, dtype=np.int64))
        return np.frombuffer(self._memory, tensor.dtype, count, offset).reshape(tensor.shape)


def _finite(output: Array) -> bool:
    return output.dtype.kind != "f" or bool(np.isfinite(output).all())
