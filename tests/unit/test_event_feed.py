"""The log's long poll: who waits when the control plane ends is answered, so that its end waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.operator import EventView
from control_plane.services.events import EventFeed
from control_plane.services.unit_of_work import Units
from tests.simulators.replicas import Site

FUTURE = 10**6  # no event has that number yet
DEADLINE_S = 5


@pytest.fixture
def units(tmp_path: Path) -> Iterator[Units]:
    replica = Site.made(tmp_path).replica()
    yield replica.units
    replica.close()


class Watched(EventFeed):
    """Tells when a reader has looked and found nothing."""

    def __init__(self, units: Units) -> None:
        super().__init__(units)
        self.looked = asyncio.Event()

    def _read(self, after: int, limit: int) -> list[EventView]:
        found = super()._read(after, limit)
        self._loop.call_soon_threadsafe(self.looked.set)
        return found


def test_who_waits_for_events_is_answered_when_the_feed_closes(units: Units) -> None:
    async def story() -> None:
        feed = Watched(units)
        async with asyncio.timeout(DEADLINE_S):
            waiting = asyncio.create_task(feed.read(FUTURE, 10, 30))
            await feed.looked.wait()
            feed.close()
            assert await waiting == []
            assert await feed.read(FUTURE, 10, 30) == [], "nor does one wait that comes later"

    asyncio.run(story())
