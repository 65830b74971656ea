"""Time is handed in. Durations come from `mono`; `utc` is for people and for expiry."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone
from typing import Protocol


class Clock(Protocol):
    def utc(self) -> datetime: ...

    def mono(self) -> float:
        """Seconds, monotonic."""

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for `event`, at most `seconds`; True when it was set."""


class SystemClock:
    def utc(self) -> datetime:
        return datetime.now(timezone.utc)

    def mono(self) -> float:
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        # Not wait_for: before Python 3.12 it loses a cancellation that arrives together with the event.
        waiter = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({waiter}, timeout=seconds)
            return event.is_set()
        finally:
            waiter.cancel()
