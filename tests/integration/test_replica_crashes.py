"""Two replicas on one database, and one of them dies at every write that it ever makes.

A story is a campaign from its creation to its end: devices poll and report through both replicas in turn. Before each call of
the story the database is copied, and in a child process the call is made with a failpoint at its first write, in the next
child at its second, and so on until the call ends without reaching the failpoint. A write is each statement that changes rows,
the COMMIT, and the moment after it, when the answer is lost. Then, on what the dead one left, the story goes on through two
fresh replicas to its end, which must be the one that it has undisturbed.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
import shutil
import signal
import sqlite3
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from contracts.operator import CampaignRequest, EventView
from contracts.states import TERMINAL, State
from control_plane.services.advance_campaigns import advance_campaigns
from control_plane.services.create_campaign import create_campaign
from control_plane.services.steer_campaign import steer_campaign
from control_plane.store import campaigns, devices, events
from control_plane.store.base import _READ_ONLY
from tests.simulators.bundle_bytes import make_bundle
from tests.simulators.replicas import DATABASE, Issued, Replica, Reporter, Site, device_id, reporters

Call = Callable[[Replica], object]
WRITES = ("INSERT", "UPDATE", "DELETE")
FIRST, SECOND = (make_bundle(number).digest for number in (1, 2))
MAX_ROUNDS = 12
AFTER = {"pause": "PAUSED", "resume": "RUNNING"}
ENDED = ("SUCCEEDED", "ROLLED_BACK", "ABORTED")


@dataclass
class Story:
    """`faults`: device -> how it ends with the second bundle. `steered`: round -> what a person does in it."""

    site: Site
    faults: dict[str, State] = field(default_factory=dict)
    steered: dict[int, Any] = field(default_factory=dict)
    shadow_pairs: int = 0
    device_count: int = 2

    def __post_init__(self) -> None:
        self.fleet: list[Reporter] = list(reporters(self.device_count, Issued()))
        for one in self.fleet:
            one.faults = {SECOND: self.faults[one.id]} if one.id in self.faults else {}
        self.rolled: list[str] = []

    def calls(self, release: str) -> Iterator[Call]:
        """Each is one call to a replica, whose answer may be lost; who made it then makes it again, or another does."""
        yield lambda replica: self._create(replica, release)
        for number in range(MAX_ROUNDS):
            if not self._begun(release):
                yield lambda replica: self._create(replica, release)
            while number in self.steered and self._states()[-1] != AFTER[self.steered[number]]:
                yield lambda replica, act=self.steered[number]: self._steer(replica, act)  # type: ignore[misc]
            yield lambda replica: advance_campaigns(replica.units)
            for one in self.fleet:
                yield one.poll
                yield one.deliver
            self.site.clock.advance(1)
            if self._ended():
                return

    def _create(self, replica: Replica, release: str) -> None:
        waves: Any = [{"devices": [one.id]} for one in self.fleet]
        create_campaign(replica.units, CampaignRequest(name="c", release=release, waves=waves, shadow_pairs=self.shadow_pairs), "op")

    def _steer(self, replica: Replica, act: Any) -> None:
        with replica.units.read() as session:
            running = campaigns.listed(session)[-1].id
        steer_campaign(replica.units, running, act, "operator:test")

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.site.folder / DATABASE)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def _begun(self, release: str) -> bool:
        return bool(self._rows(f"select id from campaigns where release = '{release}'"))

    def _ended(self) -> bool:
        return all(state in ENDED for state in self._states())

    def _states(self) -> list[str]:
        return [state for (state,) in self._rows("select state from campaigns order by number")]

    def run(self, calls: Iterator[Call], replicas: tuple[Replica, Replica]) -> None:
        for number, call in enumerate(calls):
            call(replicas[number % 2])

    def end(self) -> dict[str, Any]:
        """What must be the same however often somebody died; raises AssertionError where what must never be is."""
        replica = self.site.replica()
        with replica.units.read() as session:
            log = events.read(session, 0, 10_000)
            found = [campaigns.load(session, row) for row in campaigns.listed(session)]
            confirmed = [devices.must(session, one.id).confirmed_digest for one in self.fleet]
        replica.close()
        check_log(log, found)
        assert confirmed == [one.running for one in self.fleet], "what is believed confirmed is what runs"
        sent_back = sorted({one.device for every in found for one in every.executions if one.kind == "rollback"})
        return {"campaigns": [(one.state, [wave.state for wave in one.waves]) for one in found], "confirmed": confirmed, "back": sent_back}


def check_log(log: list[EventView], found: list[Any]) -> None:
    assert events.first_broken(log) is None
    opened = Counter((line.subject, line.data["wave"]) for line in log if line.event == "wave_moved" and line.data["state"] == "OPEN")
    assert set(opened.values()) == {1}, "a wave is opened once"
    folded = {line.subject: line.data["state"] for line in log if line.event == "execution_moved"}
    assert folded == {one.id: one.state.value for every in found for one in every.executions}
    for every in found:
        in_waves = Counter(device for wave in every.waves for device in wave.devices)
        assert set(in_waves.values()) == {1}, "no device is in two waves"
        assert all(one.device in every.waves[one.wave - 1].devices for one in every.executions)
        assert all(one.state in TERMINAL for one in every.executions)
    fences = [one.fence for every in found for one in every.executions]
    assert len(fences) == len(set(fences))


# -- dying


def arm(replica: Replica, at: int) -> None:
    """SIGKILL at the replica's `at`-th write."""
    numbers = itertools.count(1)

    def reached() -> None:
        if next(numbers) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if text.lstrip().upper().startswith(WRITES):
            reached()

    def commit(connection: Any) -> None:
        if not connection.get_execution_options().get(_READ_ONLY):
            reached()

    event.listen(replica.database.engine, "before_cursor_execute", statement)
    event.listen(replica.database.engine, "commit", commit)
    replica.units.on_commit(reached)


def in_child(work: Callable[[], None], notes: Path) -> int:
    """The wait status of a forked child that did `work`; a failure's traceback goes to `notes`."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        work()
        os._exit(0)
    except BaseException:
        notes.write_text(traceback.format_exc())
        os._exit(1)


def content(path: Path) -> str:
    """A digest of all rows, equal where nothing was committed."""
    connection = sqlite3.connect(path)
    try:
        return hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()
    finally:
        connection.close()


@dataclass
class Died:
    writes: int = 0  # deaths, one at each write
    ends: int = 0  # different databases left behind, from which the story went on


def die_at_every_write(story: Story, calls: Iterator[Call], folder: Path, want: dict[str, Any]) -> Died:
    """Tell `story` once, and at each call all the stories in which it dies there."""
    died, notes = Died(), folder / "notes"
    scratch, original = folder / "scratch", story.site
    gc.freeze()  # a collection in a child would copy every page of its parent
    replicas = original.replica(), original.replica()
    for number, call in enumerate(calls):
        seen: set[str] = set()
        for at in itertools.count(1):
            shutil.rmtree(scratch, ignore_errors=True)
            copy = original.copy(scratch)
            status = in_child(lambda copy=copy, at=at, call=call: _armed(copy, at, call), notes)  # type: ignore[misc]
            if status == 0:
                break
            assert status == signal.SIGKILL, notes.read_text()
            died.writes += 1
            left = content(scratch / DATABASE)
            if left not in seen:
                seen.add(left)
                died.ends += 1
                gone_on = in_child(lambda copy=copy: _go_on(story, copy, calls, want), notes)  # type: ignore[misc]
                assert gone_on == 0, f"call {number}, write {at}\n{notes.read_text()}"
        call(replicas[number % 2])
    gc.unfreeze()
    for replica in replicas:
        replica.close()
    return died


def _armed(copy: Site, at: int, call: Call) -> None:
    replica = copy.replica()
    arm(replica, at)
    call(replica)


def _go_on(story: Story, copy: Site, calls: Iterator[Call], want: dict[str, Any]) -> None:
    copy.clock = story.site.clock  # the generator moves this one
    story.site = copy
    replicas = copy.replica(), copy.replica()
    story.run(calls, replicas)
    for replica in replicas:
        replica.close()
    assert story.end() == want


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: a SIGKILL takes nothing from the kernel, so that waiting for a disk would show nothing."""
    with tempfile.TemporaryDirectory(prefix="skerry-crashes-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name)


STORIES: dict[str, dict[str, Any]] = {
    "succeeds": {"shadow_pairs": 100},
    "paused-resumed-rolled-back": {"steered": {0: "pause", 1: "resume"}, "faults": {device_id(1): State.REVERTED}},
}
WANTED = {"succeeds": "SUCCEEDED", "paused-resumed-rolled-back": "ROLLED_BACK"}


@pytest.fixture(scope="module", name="site")
def with_nothing_installed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The director's metadata live so short that devices find them renewed in the middle of the story."""
    return Site.made(tmp_path_factory.mktemp("site"), device_count=2, life_s=6)


def told(site: Site, folder: Path, releases: tuple[str, ...], **how: Any) -> Story:
    """A story after campaigns for `releases`, undisturbed."""
    story = Story(site.copy(folder), **how)
    replicas = story.site.replica(), story.site.replica()
    for release in releases:
        story.run(story.calls(release), replicas)
    for replica in replicas:
        replica.close()
    return story


def told_of(died: Died, record_property: Callable[[str, object], None]) -> None:
    """For the summary of the run."""
    record_property("deaths of a replica at its writes", died.writes)
    record_property("databases that a dead replica left, from which a campaign went on", died.ends)


def test_a_first_model_is_installed_wherever_a_replica_dies(
    site: Site, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    """The shortest story: one device, one wave."""
    want = told(site, folder / "undisturbed", ("tiny-1",), device_count=1).end()
    assert want["campaigns"] == [("SUCCEEDED", ["PASSED"])]
    story = told(site, folder / "story", (), device_count=1)
    died = die_at_every_write(story, story.calls("tiny-1"), folder, want)
    told_of(died, record_property)
    assert died.writes > 30


@pytest.mark.parametrize("name", STORIES)
def test_a_campaign_ends_the_same_wherever_a_replica_dies(
    name: str, site: Site, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    want = told(site, folder / "undisturbed", ("tiny-1", "tiny-2"), **STORIES[name]).end()
    assert want["campaigns"][1][0] == WANTED[name]
    story = told(site, folder / "story", ("tiny-1",), **STORIES[name])
    died = die_at_every_write(story, story.calls("tiny-2"), folder, want)
    told_of(died, record_property)
    assert died.writes > 80
    versions = [sum(device == one.id for device, _ in story.fleet[0].issued.contents) for one in story.fleet]
    assert min(versions) > 3, "renewed in the middle of it"
