"""Whose turn it is to work on slots and workers: a step of the update, or one request by hand. Never both, and the step goes first.

Otherwise a step could delete the slot that a request is loading, end the load as if it were its own, or give the same free memory away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from contracts.errors import error


class Turn:
    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._yielding: asyncio.Future[None] | None = None  # a request that ends when a step comes

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        """The update's. A request that gives way is ended, any other is waited for."""
        if self._yielding is not None:
            self._yielding.cancel()
        async with self._lock:
            yield

    async def by_hand(self, act: Callable[[], Awaitable[None]], gives_way: bool) -> None:
        """Nobody's request waits. `gives_way`: `act` may be cancelled, and then undoes what it has done.

        Raises TransientError OIP_BUSY, and then nothing has changed; and what `act` raises.
        """
        if self._lock.locked():
            raise error("OIP_BUSY")
        async with self._lock:
            acting = asyncio.ensure_future(act())
            self._yielding = acting if gives_way else None
            try:
                await asyncio.wait([acting])
            finally:
                await self._end(acting)
        if acting.cancelled():
            raise error("OIP_BUSY", "", "an update came in between")
        acting.result()

    async def _end(self, acting: asyncio.Future[None]) -> None:
        """It is done, unless who asked has gone."""
        if self._yielding is not None:
            self._yielding.cancel()
        await asyncio.gather(acting, return_exceptions=True)
        self._yielding = None
