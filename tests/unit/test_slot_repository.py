"""What the model repository may load: admitted slots that nothing bars and that the agent does not hold itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import pytest

from contracts.errors import SkerryError, TransientError
from contracts.manifest import Manifest
from contracts.states import State
from edge_agent.core.record import Record
from edge_agent.loops.slot_repository import SlotRepository
from edge_agent.loops.turn import Turn
from tests.simulators.bundle_bytes import make_bundle
from tests.simulators.device import SimWorkers
from tests.simulators.slots import SimSlots

BUNDLES = [make_bundle(number) for number in (1, 2, 3)]
OLD, LIVE, BAD = (bundle.digest for bundle in BUNDLES)
NAME = Manifest.model_validate_json(BUNDLES[0].manifest).name


class SlowToEnd(SimWorkers):
    """A worker that has been told to end does so when it is let go."""

    async def unload(self, digest: str) -> None:
        if digest in self.held:
            self.begun.set()
            await self.let_go.wait()
        await super().unload(digest)


class Here:
    def __init__(
        self, record: Record | None = None, barred: tuple[tuple[str, str], ...] = (), workers: type[SimWorkers] = SimWorkers
    ) -> None:
        self.slots, self.workers, self.turn = SimSlots(), workers(), Turn()
        self.slots.sealed = {bundle.digest: Manifest.model_validate_json(bundle.manifest) for bundle in BUNDLES}
        self.record = record or Record(history=(LIVE,), bad=((BAD, 1),))
        self.repository = SlotRepository(self.slots, self.workers, lambda: self.record, lambda digests: _among(barred, digests), self.turn)
        run(self.workers.load(LIVE, self.slots.path(LIVE), self.slots.manifest(LIVE)))
        self.workers.loads.clear()


def _among(barred: tuple[tuple[str, str], ...], digests: Iterable[str]) -> tuple[tuple[str, str], ...]:
    wanted = set(digests)
    return tuple(one for one in barred if one[0] in wanted)


def run(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(call)


def refused(call: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(SkerryError) as caught:
        run(call)
    return caught.value.code


def test_the_index_is_of_the_admitted_slots() -> None:
    here = Here()
    states = {(one["name"], one["version"]): one["state"] for one in run(here.repository.index())}
    assert states == {(NAME, "1"): "UNAVAILABLE", (NAME, "2"): "READY", (NAME, "3"): "UNAVAILABLE"}


def test_a_slot_is_loaded_and_unloaded() -> None:
    here = Here()
    run(here.repository.load(NAME, "1"))
    run(here.repository.load(NAME, "1"))
    assert here.workers.loads == [OLD]
    run(here.repository.unload(NAME, ""))
    assert here.workers.loaded() == {LIVE}


def test_what_the_agent_holds_is_its_own() -> None:
    here = Here()
    run(here.repository.load(NAME, "2"))  # it is there
    assert here.workers.loads == []
    assert refused(here.repository.unload(NAME, "2")) == "OIP_IN_USE"
    under_way = Here(Record(state=State.STAGED, target=OLD, previous=LIVE, history=(LIVE,)))
    assert refused(under_way.repository.load(NAME, "1")) == "OIP_IN_USE"


def test_nothing_else_is_loaded() -> None:
    here = Here(barred=((OLD, "BUNDLE_EPOCH"),))
    assert refused(here.repository.load("elsewhere", "")) == "OIP_NOT_ADMITTED"
    assert refused(here.repository.load(NAME, "9")) == "OIP_NOT_ADMITTED"
    assert refused(here.repository.unload("elsewhere", "")) == "OIP_NOT_ADMITTED"
    assert refused(here.repository.load(NAME, "3")) == "BUNDLE_BAD_DIGEST"
    assert refused(here.repository.load(NAME, "1")) == "BUNDLE_EPOCH"
    assert here.workers.loads == []


def test_a_model_without_room_is_not_loaded() -> None:
    here = Here()
    here.workers.too_large.add(OLD)
    assert refused(here.repository.load(NAME, "1")) == "WORKER_MEMORY"
    assert here.workers.loads == []


def test_an_altered_slot_is_not_loaded() -> None:
    here = Here()
    here.slots.verify = lambda digest: here.slots.damaged.add(digest) or here.slots.manifest(digest)  # type: ignore[method-assign, func-returns-value]
    assert refused(here.repository.load(NAME, "1")) == "BUNDLE_MEMBER_DIGEST"
    assert here.workers.loads == []


# -- one at a time


def test_beside_a_step_of_an_update_nothing_is_done_by_hand() -> None:
    here = Here()

    async def scenario() -> None:
        await here.repository.load(NAME, "1")
        async with here.turn.step():
            for act, version in ((here.repository.load, "3"), (here.repository.unload, "1")):
                with pytest.raises(TransientError, match="OIP_BUSY"):
                    await act(NAME, version)
            await here.repository.load(NAME, "1")  # it is there
        assert here.workers.loaded() == {OLD, LIVE}
        await here.repository.unload(NAME, "1")
        assert here.workers.loaded() == {LIVE}

    run(scenario())


def test_a_step_ends_a_load_by_hand_and_finds_nothing_of_it() -> None:
    here = Here()

    async def scenario() -> None:
        here.workers.held = {OLD}
        by_hand = asyncio.ensure_future(here.repository.load(NAME, "1"))
        await here.workers.begun.wait()
        with pytest.raises(TransientError, match="OIP_BUSY"):
            await here.repository.load(NAME, "1")
        async with here.turn.step():
            assert here.workers.loaded() == {LIVE}
            assert here.workers.unloads == [OLD]
            with pytest.raises(TransientError, match="OIP_BUSY"):
                await by_hand
        here.workers.let_go.set()
        await here.repository.load(NAME, "1")
        assert here.workers.loaded() == {OLD, LIVE}

    run(scenario())


def test_a_step_waits_for_the_end_of_an_unload_by_hand() -> None:
    """A worker that is being ended cannot be let go half-way."""

    here = Here(workers=SlowToEnd)

    async def scenario() -> None:
        await here.repository.load(NAME, "1")
        here.workers.held = {OLD}

        async def step() -> frozenset[str]:
            async with here.turn.step():
                return here.workers.loaded()

        by_hand = asyncio.ensure_future(here.repository.unload(NAME, "1"))
        await here.workers.begun.wait()
        stepping = asyncio.ensure_future(step())  # it begins before the unload goes on
        here.workers.let_go.set()
        assert await stepping == {LIVE}
        await by_hand

    run(scenario())


def test_a_caller_that_goes_away_takes_its_load_with_it() -> None:
    here = Here()

    async def scenario() -> None:
        here.workers.held = {OLD}
        by_hand = asyncio.ensure_future(here.repository.load(NAME, "1"))
        await here.workers.begun.wait()
        by_hand.cancel()
        assert isinstance((await asyncio.gather(by_hand, return_exceptions=True))[0], asyncio.CancelledError)
        assert here.workers.unloads == [OLD]
        here.workers.let_go.set()
        await here.repository.load(NAME, "1")

    run(scenario())
