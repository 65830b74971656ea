"""A seat of an arena in the event loop: requests of many callers, each waiting for its own answer.

A request that finds every cell taken waits its turn, first come first served; the line is bounded. A caller that is cancelled takes its
request with it: what the worker has not begun is not computed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from contracts.errors import SkerryError, error
from edge_agent.inference.client import GRACE_NS, HIGH, Answer, Array, Cell, Ticket
from edge_agent.inference.oip.ports import SeatClient

T = TypeVar("T")
_LAST_LOOK_S = GRACE_NS / 1e9 + 0.05  # after the agent hung up: by then the client knows that no answer will come


class Seat:
    """Takes over the client; `close` closes it."""

    def __init__(self, client: SeatClient, line_limit: int, labels: tuple[str, ...] = ()) -> None:
        self.route: dict[str, Any] = client.route
        self.labels = labels  # of the model's classes
        self._client, self._line_limit = client, line_limit
        self._answers: dict[Ticket, asyncio.Future[None]] = {}
        self._line: deque[asyncio.Future[None]] = deque()
        self._without_cell = 0
        self._loop = asyncio.get_running_loop()
        self._watched = client.connection_fileno()
        self._loop.add_reader(client.fileno(), self._look)
        if self._watched >= 0:
            self._loop.add_reader(self._watched, self._hung_up)

    def announce(self) -> None:
        """A request is about to come."""
        self._client.announce()

    @property
    def detached(self) -> bool:
        return self._client.detached

    @property
    def pending(self) -> int:
        """Requests that wait for a cell or an answer."""
        return len(self._answers) + len(self._line)

    @property
    def crowded(self) -> bool:
        """Requests wait for a cell."""
        return self._without_cell > 0

    async def infer(self, fill: Callable[[Array], None], use: Callable[[Answer], T], deadline_ns: int, priority: str = HIGH) -> T:
        """`fill` writes the input, `use` reads the answer, both in shared memory and both at once.

        Raises what they raise, TransientError ARENA_BUSY, ARENA_TIMEOUT, ARENA_DETACHED, LocalFaultError WORKER_CRASH,
        RejectedError WORKER_MODEL.
        """
        cell = await self._cell(deadline_ns)
        try:
            fill(cell.input)
            ticket = self._client.commit(cell, deadline_ns, priority)
        except BaseException:
            self._give_back(cell)
            raise
        try:
            await self._wait(ticket, deadline_ns)
            return use(self._client.hold(ticket))
        finally:
            self._give_back(ticket)

    def close(self) -> None:
        self._unwatch()
        self._loop.remove_reader(self._client.fileno())
        self._client.close()

    # -- a cell

    async def _cell(self, deadline_ns: int) -> Cell:
        """The next free one, after all who wait already."""
        if not self._line:
            cell = self._try()
            if cell is not None:
                return cell
        if len(self._line) >= self._line_limit:
            raise error("ARENA_BUSY", f"{len(self._line)} requests wait for a cell")
        self._without_cell += 1  # the line is shorter by one whose turn came and who may have to go back
        try:
            return await self._in_line(deadline_ns)
        finally:
            self._without_cell -= 1

    async def _in_line(self, deadline_ns: int) -> Cell:
        turn: asyncio.Future[None] = self._loop.create_future()
        self._line.append(turn)
        while True:
            try:
                await self._until(turn, deadline_ns)
                cell = self._try()
            except BaseException:
                self._leave(turn)
                raise
            if cell is not None:
                self._next()  # more than one may have become free by one wake-up
                return cell
            turn = self._loop.create_future()
            self._line.appendleft(turn)

    def _leave(self, turn: asyncio.Future[None]) -> None:
        """Give up a place in the line; a turn that came already goes to the next."""
        if turn in self._line:
            self._line.remove(turn)
        else:
            self._next()

    def _try(self) -> Cell | None:
        try:
            return self._client.reserve()
        except SkerryError as busy:
            if busy.code != "ARENA_BUSY":
                raise
            return None

    def _give_back(self, held: Cell | Ticket) -> None:
        self._client.release(held)
        self._next()

    def _next(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    # -- an answer

    async def _wait(self, ticket: Ticket, deadline_ns: int) -> None:
        if self._client.ready(ticket) if self._answers else self._client.look(ticket):
            return
        answer = self._answers[ticket] = self._loop.create_future()
        try:
            await self._until(answer, deadline_ns)
        finally:
            del self._answers[ticket]

    async def _until(self, future: asyncio.Future[None], deadline_ns: int) -> None:
        """Raises TransientError ARENA_TIMEOUT."""
        left_s = (deadline_ns - time.monotonic_ns()) / 1e9
        timer = self._loop.call_later(max(left_s, 0.0), _expire, future)
        try:
            await future
        finally:
            timer.cancel()

    def _look(self) -> None:
        self._client.drain()
        for ticket, answer in self._answers.items():
            if not answer.done() and self._client.ready(ticket):
                answer.set_result(None)
        self._next()  # a cell whose caller had gone may be free again

    # -- the agent's end

    def _hung_up(self) -> None:
        """What is on its way may still be answered for a moment."""
        self._unwatch()
        self._look()
        self._loop.call_later(_LAST_LOOK_S, self._last_look)

    def _last_look(self) -> None:
        if self._answers or self._line:
            self._look()

    def _unwatch(self) -> None:
        if self._watched >= 0:
            self._loop.remove_reader(self._watched)
            self._watched = -1


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(error("ARENA_TIMEOUT", "", "the front waited until the request's deadline"))
