"""Each state of an update, and what may happen to its work: an error, a hang, SIGKILL, a power cut; once and for ever. As data.

The strike falls when the work has had its effect and its outcome is not yet known. One driver runs every case: the agent's own loop,
slots and agent.db on a real folder, each life in a process of its own, until nothing is under way any more.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from contracts.states import State
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.core.update import WORK
from tests.simulators.device import order_for
from tests.simulators.device_process import BASE, BUNDLES, NEW, OLD, Life, Lives, RealDisk, Strike, What, whole
from tests.simulators.power_cut import cuts
from tests.simulators.torn_disk import TornDisk, Tree

SEED = 20261126
MAX_LIVES = 60
DEADLINE_S = 5.0  # of the agent's time
EVER = 1_000_000
TREES = 3  # of those that a power cut may leave, how many go on to the end, besides the one where nothing is lost
ENOUGH = 4  # strikes after which one that never settles is believed

GOOD = ("OFFERED", "DOWNLOADING", "STAGED", "BUILDING_ENGINE", "ACTIVATING", "PROBATION", "CONFIRMED")
SHADOWED = (*GOOD[:4], "SHADOWING", *GOOD[4:])
BACK = ("ROLLING_BACK", "REVERTED")


@dataclass(frozen=True)
class End:
    """What is reported after the state that was struck, which slot is live at the end, and the code of the last report."""

    then: tuple[str, ...]
    live: str
    code: str = ""
    settles: bool = True


# fmt: off
ENDS = {
    "good":     End((), NEW.digest),                                             # as if nothing had been
    "late":     End(("TIMED_OUT",), OLD.digest, "ASSIGNMENT_DEADLINE"),
    "rejected": End(("REJECTED",), OLD.digest, "BUNDLE_GOLDEN"),
    "refused":  End(("FAILED",), OLD.digest, "BUNDLE_GOLDEN"),
    "fault":    End(("FAILED",), OLD.digest, "WORKER_START"),
    "worn":     End(("FAILED",), OLD.digest, "BUNDLE_SELF_TEST"),                # its attempts are used up
    "b.late":   End(BACK, OLD.digest, "ASSIGNMENT_DEADLINE"),
    "b.refused": End(BACK, OLD.digest, "BUNDLE_GOLDEN"),
    "b.fault":  End(BACK, OLD.digest, "WORKER_START"),
    "b.worn":   End(BACK, OLD.digest, "BUNDLE_SELF_TEST"),
    "back":     End(("REVERTED",), OLD.digest, "WORKER_NOT_FINITE"),
    "tries":    End((), OLD.digest, "WORKER_NOT_FINITE", settles=False),         # a roll back never gives up
    "stays":    End((), NEW.digest, settles=False),                              # so does who tidies up
}

WHATS: tuple[What, ...] = ("transient", "refused", "fault", "hang", "deaf", "kill", "power cut")
MATRIX = """
state           | transient   | refused             | fault           | hang          | deaf          | kill        | power cut
                | once ever   | once      ever      | once    ever    | once   ever   | once   ever   | once ever   | once ever
OFFERED         | good late   | rejected  rejected  | fault   fault   | late   late   | late   late   | good late   | good late
DOWNLOADING     | good late   | refused   refused   | fault   fault   | late   late   | late   late   | good late   | good late
STAGED          | good worn   | refused   refused   | fault   fault   | late   late   | late   late   | good worn   | good worn
BUILDING_ENGINE | good worn   | refused   refused   | fault   fault   | late   late   | late   late   | good worn   | good worn
SHADOWING       | good worn   | refused   refused   | fault   fault   | late   late   | late   late   | good worn   | good worn
ACTIVATING      | good b.worn | b.refused b.refused | b.fault b.fault | b.late b.late | b.late b.late | good b.worn | good b.worn
PROBATION       | good b.worn | b.refused b.refused | b.fault b.fault | b.late b.late | b.late b.late | good b.worn | good b.worn
ROLLING_BACK    | back tries  | back      tries     | back    tries   | back   tries  | back   tries  | back tries  | back tries
CONFIRMED       | good stays  | good      b.refused | good    b.fault | good   b.worn | good   b.worn | good b.worn | good b.worn
"""
# fmt: on


@dataclass(frozen=True)
class Case:
    state: State
    what: What
    ever: bool
    end: End

    @property
    def chain(self) -> tuple[str, ...]:
        """All that is reported."""
        way = SHADOWED if self.state is State.SHADOWING else (*GOOD[:6], *BACK) if self.state is State.ROLLING_BACK else GOOD
        before = way[: way.index(self.state.value) + 1]
        return way if self.end is ENDS["good"] else (*before, *self.end.then)

    def life(self, number: int, began_s: float) -> Life:
        """The n-th life of this story, from 1."""
        shadowed, deadline_s = self.state is State.SHADOWING, began_s + DEADLINE_S
        order = order_for(
            NEW, 3, activate=not shadowed, shadow_pairs=10 * shadowed,
            deadlines=((self.state.value, deadline_s),) if self.end.code == "ASSIGNMENT_DEADLINE" else (),
        )  # fmt: skip
        strike = Strike(self.state, self.what, EVER if self.ever else 1)
        return Life(
            order,
            strike if self.ever or number == 1 else None,
            not_finite=int(self.state is State.ROLLING_BACK),
            enough=EVER if self.end.settles else ENOUGH,
            began_s=began_s,
        )


def cases() -> Iterator[Case]:
    for line in MATRIX.strip().splitlines()[2:]:
        state, *cells = (cell.strip() for cell in line.split("|"))
        for what, cell in zip(WHATS, cells, strict=True):
            for ever, end in zip((False, True), cell.split(), strict=True):
                yield Case(State(state), what, ever, ENDS[end])


def named(case: Case) -> str:
    return f"{case.state.value}-{case.what.replace(' ', '_')}-{'ever' if case.ever else 'once'}"


# -- the driver


@dataclass
class Story:
    """One device from its first life to its last."""

    case: Case
    state: Path  # where it lives now
    lives: Lives
    lived: int = 0
    began_s: float = field(default_factory=time.time)

    def one_life(self) -> bool:
        """Whether it has settled, or nothing more is to be expected."""
        self.lived += 1
        assert self.lived <= MAX_LIVES, "it never ends"
        settled = self.lives.live(self.state, self.case.life(self.lived, self.began_s)) == 0
        return settled or (not self.case.end.settles and self.lived >= ENOUGH)

    def lose_power(self, chance: random.Random) -> list[Story]:
        """A life in which the power goes at the strike: how the story may go on. Nothing when it has come to its end."""
        disk = TornDisk(self.state)
        self.lives.calls()
        if self.one_life():
            return []
        for _ in cuts(disk, self.lives.calls()):
            pass  # until the last call before the cut
        everything, *others = disk.trees(64, chance)
        trees = [everything, *chance.sample(others, min(TREES, len(others)))]
        return [self._on(tree, number) for number, tree in enumerate(trees)]

    def _on(self, tree: Tree, number: int) -> Story:
        state = self.state.with_name(f"{self.state.name}-{number}")
        state.mkdir()
        tree.build(state)
        return replace(self, state=state)


def play(story: Story, chance: random.Random) -> list[Story]:
    """To the end; the ends, where there are several."""
    if story.case.what != "power cut":
        while not story.one_life():
            pass
        return [story]
    after = story.lose_power(chance)
    if not story.case.ever:
        for one in after:
            while not one.one_life():
                pass
        return after
    while after:
        story = chance.choice(after)
        after = story.lose_power(chance)
    return [story]


def check_end(case: Case, state: Path) -> None:
    db = AgentDb(state / "agent.db")
    record, reports = db.record(), [one for one in db.pending(1000) if one.execution == "c3/d/1"]
    db.close()
    assert [one.seq for one in reports] == list(range(1, len(reports) + 1))
    assert tuple(one.body["state"] for one in reports) == case.chain
    assert reports[-1].body["code"] == case.end.code
    assert record.live == case.end.live
    current = RealDisk(state).slots.current()
    assert current == record.live or not case.end.settles
    assert whole(state / "slots" / current, BUNDLES[current])
    assert whole(state / "slots" / record.live, BUNDLES[record.live])


@pytest.fixture(scope="module")
def quick_lives() -> Iterator[Lives]:
    lives = Lives()
    yield lives
    lives.close()


@pytest.fixture(scope="module")
def device(ram: Path, quick_lives: Lives) -> Path:
    """It runs OLD, confirmed, and came there from BASE."""
    state = ram / "device"
    state.mkdir()
    for fence, bundle in ((1, BASE), (2, OLD)):
        assert quick_lives.live(state, Life(order_for(bundle, fence))) == 0
    return state


@pytest.mark.parametrize("case", list(cases()), ids=named)
def test_a_strike(case: Case, device: Path, ram: Path, request: pytest.FixtureRequest, record_property: Callable[[str, int], None]) -> None:
    lives: Lives = request.getfixturevalue("recorded_lives" if case.what == "power cut" else "quick_lives")
    with tempfile.TemporaryDirectory(dir=ram) as folder:
        state = Path(folder) / "state"
        shutil.copytree(device, state, symlinks=True)
        ends = play(Story(case, state, lives), random.Random(f"{SEED} {named(case)}"))
        for story in ends:
            check_end(case, story.state)
    record_property("crash matrix: cases", 1)
    record_property("crash matrix: lives", sum(story.lived for story in ends))


def test_every_state_with_work_is_struck() -> None:
    """What ends an execution shares one work: tidying."""
    struck = {case.state for case in cases()}
    assert {WORK[state] for state in WORK} == {WORK[state] for state in struck}
    assert len(list(cases())) == len(struck) * len(WHATS) * 2


@pytest.mark.parametrize(("state", "times"), [(State.PROBATION, 5), (State.CONFIRMED, 9)])
def test_a_model_that_takes_the_machine_down_while_it_loads_does_not_do_so_for_ever(
    state: State, times: int, device: Path, quick_lives: Lives, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    shutil.copytree(device, folder, symlinks=True)
    case = Case(state, "kill", False, ENDS["b.worn"])
    deaths = 0
    while quick_lives.live(folder, replace(case.life(deaths + 1, time.time()), deadly=NEW.digest)) != 0:
        deaths += 1
        assert deaths <= times, "it never ends"
    check_end(case, folder)
    assert deaths == times
