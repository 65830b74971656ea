"""The power goes at any instant of an update; the agent starts on every tree of files that a file system may then be left with.

A run is recorded at the kernel's border, and its unsynced parts are lost, torn or kept (tests/simulators/torn_disk.py says what is
assumed). Whatever is left, the agent starts: the old model or the new one answers, whole, and what was promised holds.
"""

from __future__ import annotations

import asyncio
import base64
import pickle
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_agent.core.floors import Floors
from edge_agent.core.record import Record, to_json
from tests.simulators.device import Device, order_for
from tests.simulators.device_process import BASE, BUNDLES, NEW, OLD, HurriedClock, Life, Lives, RealDisk, promises_of, whole
from tests.simulators.power_cut import cuts
from tests.simulators.syscalls import Call
from tests.simulators.torn_disk import TornDisk, Tree, read_tree

SEED = 20261126
TREES_A_CUT = 64  # all there are, when they are no more


@dataclass(frozen=True)
class Promises:
    """(number of the call, what had returned by then), oldest first."""

    made: list[tuple[int, dict[str, Any]]]
    before: dict[str, Any]

    @classmethod
    def of(cls, calls: list[Call], state: Path, before: dict[str, Any]) -> Promises:
        path = str(promises_of(state))
        lines = [(number, call.data(1)) for number, call in enumerate(calls) if call.name == "write" and call.descriptor(0)[1] == path]
        return cls([(number, pickle.loads(base64.b64decode(line))) for number, line in lines], before)

    def around(self, kind: str, cut: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The last one given before the cut, and the next one, which was on the way."""
        of_kind = [(number, promise) for number, promise in self.made if kind in promise]
        given = [promise for number, promise in of_kind if number < cut]
        coming = [promise for number, promise in of_kind if number >= cut]
        last = given[-1] if given else self.before
        return last, coming[0] if coming else last


@dataclass(frozen=True)
class Found:
    """A device after its start on a tree."""

    record: str
    live: str
    loaded: frozenset[str]
    current: str
    reports: int
    floors: Floors
    slots: dict[str, bool]  # name -> whole


def start(tree: Tree, folder: Path) -> Found:
    """What the agent does before it talks to anyone: it opens agent.db, reads its record, hashes and loads the live model."""
    folder.mkdir()
    tree.build(folder)
    device = Device(disk := RealDisk(folder), clock=HurriedClock(time.time()))
    record = device.update.record
    asyncio.run(device.update.restore())
    reports = device.db.pending(1000)
    for execution in {one.execution for one in reports}:
        seqs = [one.seq for one in reports if one.execution == execution]
        assert seqs == list(range(1, len(seqs) + 1))
    slots = {path.name: whole(path, BUNDLES[path.name]) for path in (folder / "slots").iterdir() if path.name in BUNDLES}
    loaded, current, floors = device.workers.loaded(), disk.slots.current(), device.db.floors()
    device.db.close()
    shutil.rmtree(folder)
    return Found(to_json(record), record.live, loaded, current, len(reports), floors, slots)


def check_start(found: Found, cut: int, promises: Promises, models: set[str]) -> None:
    given, coming = promises.around("record", cut)
    assert (found.record, found.reports) in {(one["record"], one["reports"]) for one in (given, coming)}
    assert found.live in models
    assert found.loaded == {found.live} - {""}, "the live model does not answer"
    assert found.current in {one["current"] for one in promises.around("current", cut)}
    assert found.slots == dict.fromkeys(found.slots, True), "a slot's name stands for less than a whole slot"
    assert {found.live, found.current} - {""} <= set(found.slots)
    floors = promises.around("floors", cut)[0]["floors"]
    assert found.floors.security_epoch >= floors.security_epoch
    assert all(found.floors.versions.get(role, 0) >= version for role, version in floors.versions.items())


NOTHING: dict[str, Any] = {"record": to_json(Record()), "reports": 0, "current": "", "floors": Floors()}


def standing(state: Path) -> dict[str, Any]:
    """What holds of a device before the run that is recorded."""
    device = Device(disk := RealDisk(state))
    db = device.db
    before = {"record": to_json(db.record()), "reports": db.waiting(), "current": disk.slots.current(), "floors": db.floors()}
    db.close()
    return before


FIRST, SECOND, THIRD = order_for(BASE, 1), order_for(OLD, 2), order_for(NEW, 3)
STORIES: dict[str, tuple[list[Life], Life, set[str]]] = {
    # name: lives before, the life in which the power goes, models that may answer
    "first_model": ([], Life(FIRST), {"", BASE.digest}),
    "good_update": ([Life(FIRST), Life(SECOND)], Life(THIRD), {OLD.digest, NEW.digest}),
    "bad_update": ([Life(FIRST), Life(SECOND)], Life(THIRD, not_finite=1), {OLD.digest, NEW.digest}),
    "local_roll_back": ([Life(FIRST), Life(SECOND)], Life(circuit_opens=True), {BASE.digest, OLD.digest}),
}


@pytest.mark.parametrize("story", STORIES)
def test_whatever_a_power_cut_leaves_one_whole_model_answers_and_every_promise_holds(
    story: str, recorded_lives: Lives, ram: Path, record_property: Callable[[str, int], None]
) -> None:
    before, cut_life, models = STORIES[story]
    state = ram / story
    state.mkdir()
    for life in before:
        assert recorded_lives.live(state, life) == 0
    promised = standing(state) if before else NOTHING
    disk = TornDisk(state)
    recorded_lives.calls()
    assert recorded_lives.live(state, cut_life) == 0
    calls = recorded_lives.calls()
    promises = Promises.of(calls, state, promised)
    tried: dict[str, Found] = {}
    instant = exhausted = 0
    for instant, cut in enumerate(cuts(disk, calls)):
        exhausted += disk.fates() <= TREES_A_CUT
        for tree in disk.trees(TREES_A_CUT, random.Random(f"{SEED} {story} {instant}")):
            if (digest := tree.digest()) not in tried:
                tried[digest] = start(tree, ram / "tree")
            check_start(tried[digest], cut, promises, models)
    assert disk.now() == read_tree(state), "the recording is not what happened"
    record_property("instants of a power cut", instant + 1)
    record_property("instants of a power cut, every tree tried", exhausted)
    record_property("starts on what a power cut left", len(tried))
