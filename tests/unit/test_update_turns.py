"""An update and loads by hand, over slots in memory: one at a time, in either order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from contracts.errors import TransientError
from contracts.manifest import Manifest
from contracts.states import State
from edge_agent.core.admission import AdmittedBundle
from edge_agent.loops.slot_repository import SlotRepository
from tests.simulators.bundle_bytes import make_bundle
from tests.simulators.device import Device, Disk, order_for, settled

V1, V2, V3 = (make_bundle(number) for number in (1, 2, 3))
OTHER = Manifest.model_validate_json(V3.manifest)
WAIT_S = 5.0


class Site:
    """A device that runs V1, is asked for V2 by a campaign and for V3 by hand."""

    def __init__(self, folder: Path) -> None:
        self.disk = Disk(folder, V1, V2)
        asyncio.run(Device(self.disk).live(settled, order_for(V1)))
        self.device = Device(self.disk)
        self.workers = self.device.workers
        self.repository = SlotRepository(
            self.disk.slots, self.workers, lambda: self.device.update.record, self.device.works.barred, self.device.turn
        )

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        """The device lives beside `story`, and after it until V2 is confirmed."""

        async def told() -> None:
            try:
                await story()
            finally:
                self.workers.let_go.set()

        async def both() -> None:
            telling = asyncio.ensure_future(told())
            await self.device.live(lambda _: telling.done() and (telling.exception() is not None or self.on(V2.digest)))
            telling.result()

        asyncio.run(both())

    def on(self, digest: str) -> bool:
        return settled(self.device) and self.device.update.record.live == digest

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.wait_for(self.device.clock.wait(self.device.exchange.windows_came, 0.002), WAIT_S)

    def order(self) -> None:
        self.device.exchange.order = order_for(V2, 2)
        self.device.exchange.update_wanted.set()

    async def load_by_hand(self) -> None:
        self.disk.slots.sealed[V3.digest] = OTHER
        await self.repository.load(OTHER.name, str(OTHER.number))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_while_an_update_loads_nothing_is_loaded_by_hand(site: Site) -> None:
    async def story() -> None:
        site.workers.held = {V2.digest}
        site.order()
        await asyncio.wait_for(site.workers.begun.wait(), WAIT_S)
        assert site.device.update.record.state is State.BUILDING_ENGINE
        with pytest.raises(TransientError, match="OIP_BUSY"):
            await site.load_by_hand()
        site.workers.let_go.set()

    site.run(story)
    assert V3.digest not in site.workers.loads


def test_a_load_that_is_no_longer_wanted_ends_and_holds_up_nothing(site: Site) -> None:
    async def story() -> None:
        site.workers.held = {V2.digest}
        site.order()
        await asyncio.wait_for(site.workers.begun.wait(), WAIT_S)
        site.workers.held = set()
        site.device.exchange.order = order_for(V2, 3)
        site.device.exchange.update_wanted.set()
        await asyncio.wait_for(site.until(lambda: site.on(V2.digest)), WAIT_S)

    site.run(story)
    assert site.workers.loads == [V1.digest, V2.digest]
    assert site.device.update.record.fence == 3


def test_an_update_ends_what_is_being_loaded_by_hand_and_goes_on(site: Site) -> None:
    async def story() -> None:
        await site.until(lambda: site.device.exchange.passes.get("update", 0) > 0)  # it has tidied, and waits
        site.workers.held = {V3.digest}
        by_hand = asyncio.ensure_future(site.load_by_hand())
        await asyncio.wait_for(site.workers.begun.wait(), WAIT_S)
        site.order()
        with pytest.raises(TransientError, match="OIP_BUSY"):
            await asyncio.wait_for(by_hand, WAIT_S)

    site.run(story)
    assert V3.digest not in site.workers.loads


def test_what_was_loaded_by_hand_while_a_bundle_was_fetched_takes_no_room_from_it(site: Site) -> None:
    fetched, stage = threading.Event(), site.disk.slots.stage

    def slowly(admitted: AdmittedBundle, stopped: Callable[[], bool]) -> None:
        assert fetched.wait(WAIT_S)
        stage(admitted, stopped)

    def room_for_two(digest: str, manifest: Manifest) -> None:
        assert len(site.workers.loaded()) < 2

    site.disk.slots.stage = slowly  # type: ignore[method-assign]
    site.workers.check_room = room_for_two  # type: ignore[method-assign]

    async def story() -> None:
        site.order()
        await site.until(lambda: site.device.update.record.state is State.DOWNLOADING)
        await site.load_by_hand()
        assert V3.digest in site.workers.loaded()
        fetched.set()

    site.run(story)
