"""The alarm clock: APScheduler with one job, which is re-derived from rows at each pass and so may be lost at any time.

A late alarm must still ring (`misfire_grace_time=None`), several late ones ring once, and nothing is stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger

_JOB = "advance"
logging.getLogger("apscheduler").setLevel(logging.WARNING)  # each ring is no change of state


class Alarm:
    """Calls `ring` in the event loop at the time set last."""

    def __init__(self, ring: Callable[[], None]) -> None:
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        self._scheduler = AsyncIOScheduler(timezone="UTC", job_defaults=defaults)
        self._ring = ring

    def start(self) -> None:
        self._scheduler.start()

    def set(self, when: datetime) -> None:
        self._scheduler.add_job(self._rung, DateTrigger(when), id=_JOB, replace_existing=True)

    async def _rung(self) -> None:
        self._ring()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)
