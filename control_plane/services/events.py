"""Reading the event log, with a long poll: who waits is woken by the commit that appends."""

from __future__ import annotations

import asyncio

from contracts.operator import EventView
from control_plane.services.unit_of_work import Units
from control_plane.store import events

MAX_LIMIT = 1000
MAX_WAIT_S = 30.0


class EventFeed:
    """Made in the event loop's thread; `committed` may be called from any thread, after each commit."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._closed = False
        units.on_commit(self.committed)

    def close(self) -> None:
        """Nobody waits for events any more: who does has his answer now."""
        self._closed = True
        self._wake()

    def committed(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()  # who comes later waits for the next commit

    async def changed(self, timeout_s: float) -> bool:
        """Wait for the next commit, at most `timeout_s`; True when there was one."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def read(self, after: int, limit: int, wait_s: float) -> list[EventView]:
        """Events with seq > after, oldest first, at most `limit`; waits up to `wait_s` for the first one."""
        limit, deadline = min(limit, MAX_LIMIT), self._loop.time() + min(wait_s, MAX_WAIT_S)
        while True:
            changed = self._changed  # taken before the read, so that no commit between the two is missed
            found = await asyncio.to_thread(self._read, after, limit)
            left = deadline - self._loop.time()
            if found or left <= 0 or self._closed:
                return found
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                return []

    def _read(self, after: int, limit: int) -> list[EventView]:
        with self._units.read() as session:
            return events.read(session, after, limit)
