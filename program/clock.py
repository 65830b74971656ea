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
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            return False
        return True
