"""A clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

START_UTC = datetime(2026, 1, 1, tzinfo=timezone.utc)


class SimulatedClock:
    """program.clock.Clock. `wait` returns when the event is set or when `advance` has gone past its deadline."""

    def __init__(self, start_utc: datetime = START_UTC) -> None:
        self._utc, self._mono = start_utc, 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def utc(self) -> datetime:
        return self._utc

    def mono(self) -> float:
        return self._mono

    def advance(self, seconds: float) -> None:
        self._mono += seconds
        self._utc += timedelta(seconds=seconds)
        for deadline, woken in self._sleepers:
            if deadline <= self._mono:
                woken.set()

    def set_utc(self, utc: datetime) -> None:
        """Wrong or mended: the wall clock alone jumps."""
        self._utc = utc

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        woken = asyncio.Event()
        sleeper = (self._mono + seconds, woken)
        if seconds <= 0:
            woken.set()
        self._sleepers.append(sleeper)
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(woken.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sleepers.remove(sleeper)
            for task in tasks:
                task.cancel()
        return event.is_set()
