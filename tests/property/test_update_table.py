"""Whatever happens in whatever order: the promises of the update table, against a world of slots and the real agent.db.

A crash may come before and after each effect, and between two; then the agent starts from what agent.db says, and one whole slot boots.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.states import TERMINAL, State
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.core.orders import Order
from edge_agent.core.record import from_json, to_json
from edge_agent.core.update import (
    MAX_ATTEMPTS,
    TRANSITIONS,
    WORK,
    Done,
    Event,
    Fault,
    On,
    Ordered,
    Refused,
    Report,
    Revert,
    Run,
    Start,
    Tick,
    Work,
    gives_up,
    step,
)
from edge_agent.ports import Draft

DIGESTS = [letter * 64 for letter in "abc"]
BEFORE_ACTIVATING = {State.OFFERED, State.DOWNLOADING, State.STAGED, State.BUILDING_ENGINE, State.SHADOWING}


def test_every_state_has_work_and_every_row_leads_to_a_state_with_work() -> None:
    assert set(WORK) == set(State) - {State.QUEUED}
    assert {to for to in TRANSITIONS.values()} <= set(WORK)


def test_no_row_leaves_a_terminal_state_but_for_a_new_execution() -> None:
    leaving = {on for (state, on), to in TRANSITIONS.items() if state in TERMINAL and to is not state}
    assert leaving == {On.OFFER, On.REVERT}


def test_failed_is_reached_only_before_activating() -> None:
    assert {state for (state, _), to in TRANSITIONS.items() if to is State.FAILED and state is not to} <= BEFORE_ACTIVATING


class Device(RuleBasedStateMachine):
    """The model: what a slot folder, a worker and a server would have seen."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.db = AgentDb(Path(self._folder.name) / "agent.db")
        self.record = self.db.record()
        self.whole: set[str] = set()  # slots that have their name
        self.told: dict[str, list[State]] = {}  # execution -> its transitions, in order
        self.order: Order | None = None
        self.fence = 0
        self.current = ""  # what the slot folder's link names
        self.ever_confirmed: set[str] = set()
        self.ended: dict[tuple[str, str], State] = {}  # (execution, kind) -> terminal state
        self.condemned: dict[str, int] = {}

    def teardown(self) -> None:
        self.db.close()
        self._folder.cleanup()

    def feed(self, event: Event) -> tuple[Any, ...]:
        record, effects = step(self.record, event)
        assert from_json(to_json(record)) == record
        reports = [effect for effect in effects if isinstance(effect, Report)]
        self.db.save(record, [Draft(report.execution, {"state": report.state.value}) for report in reports])
        self.record = record
        for report in reports:
            self.told.setdefault(report.execution, []).append(report.state)
            self.reported(report)
        return effects

    def crash(self) -> None:
        """The process is gone; the next one starts from what is on the disk, counts its start and loads the live model."""
        self.db.close()
        self.db = AgentDb(Path(self._folder.name) / "agent.db")
        assert self.db.record() == self.record
        self.record = self.db.record()
        if (given_up := gives_up(self.record)) is not None:
            self.give_up(given_up)
        if self.record.live and (self.record.terminal or self.record.state is State.PROBATION):
            self.feed(Start())
        assert not self.record.live or self.record.live in self.whole, "nothing whole to boot"

    def reported(self, report: Report) -> None:
        key = (report.execution, "local" if report.local else "ordered")
        assert key not in self.ended, f"{key} ended {self.ended.get(key)} and now reports {report.state}"
        if report.state in TERMINAL:
            self.ended[key] = report.state
        if report.state is State.CONFIRMED:
            self.ever_confirmed.add(self.record.target)
        if report.state in (State.REVERTED, State.FAILED, State.REJECTED):
            assert report.code

    def run(self, work: Work) -> None:
        """What the work does to the world; it may be cut off after that."""
        if work in (Work.PROVE, Work.SHADOW, Work.ACTIVATE, Work.PROBE):
            assert self.condemned.get(self.record.target, -1) < self.record.fence, "a bad digest was run under an old fence"
        if work is Work.SEAL:
            self.whole.add(self.record.target)
        elif work is Work.ACTIVATE:
            self.current = self.record.target
        elif work is Work.ROLL_BACK:
            self.current = self.record.previous
        elif work is Work.TIDY:
            self.current = self.record.live
            self.whole &= self.record.kept | {self.current}

    def give_up(self, revert: Revert) -> None:
        before = self.record
        gone = tuple((digest, "BUNDLE_MEMBER_DIGEST") for digest in before.history if digest not in self.whole)
        self.feed(Revert(revert.code, revert.detail, barred=gone))
        if self.record.state is State.ROLLING_BACK:
            self.condemned[before.confirmed] = before.fence

    @rule(
        digest=st.sampled_from(DIGESTS),
        kind=st.sampled_from(["install", "rollback"]),
        activate=st.booleans(),
        bounded=st.sets(st.sampled_from(sorted(BEFORE_ACTIVATING | {State.ACTIVATING, State.PROBATION}))),
    )
    def a_new_order(self, digest: str, kind: str, activate: bool, bounded: set[State]) -> None:
        self.fence += 1
        deadlines = tuple((state.value, 1000.0) for state in sorted(bounded))
        self.order = Order(self.fence, kind, f"c{self.fence}/d/1", self.fence, "p", digest, 9, activate=activate, deadlines=deadlines)
        self.feed(Ordered(self.order))

    @precondition(lambda self: self.order is not None)
    @rule(activate=st.booleans())
    def the_order_again(self, activate: bool) -> None:
        assert self.order
        if activate:
            self.order = Order(**{**self.order.__dict__, "activate": True})
        self.feed(Ordered(self.order))

    @rule(fence=st.integers(1, 3), digest=st.sampled_from(DIGESTS))
    def an_old_order(self, fence: int, digest: str) -> None:
        if fence < self.record.fence:
            before = self.record
            self.feed(Ordered(Order(1, "install", f"c{fence}/d/1", fence, "p", digest, 9, activate=True)))
            assert self.record == before

    @rule(kind=st.sampled_from(["none", "teleport"]), generation=st.integers(0, 9))
    def no_order(self, kind: str, generation: int) -> None:
        self.feed(Ordered(Order(generation, kind)))

    @rule(crash=st.sampled_from(["", "", "before", "after"]))
    def work(self, crash: str) -> None:
        """Begin the state's work; a crash comes before its effect, or after it and before its outcome is known."""
        for effect in () if self.record.terminal else self.feed(Start()):
            if isinstance(effect, Run) and crash != "before":
                self.run(effect.work)
        if self.record.terminal and crash != "before":
            self.run(Work.TIDY)
        if crash:
            self.crash()
        elif self.record.terminal or self.record.attempts_in(self.record.state):
            self.feed(Done())

    @rule()
    def all_goes_well_for_a_while(self) -> None:
        for _ in range(7):
            self.work("")

    @rule()
    def a_crash_at_rest(self) -> None:
        self.crash()

    @precondition(lambda self: not self.record.terminal)
    @rule(local=st.booleans())
    def a_failure(self, local: bool) -> None:
        target, fence, state = self.record.target, self.record.fence, self.record.state
        if state is State.OFFERED or not local or state in (State.ACTIVATING, State.PROBATION):
            self.feed(Fault("WORKER_START") if local else Refused("BUNDLE_GOLDEN"))
            if state is not State.ROLLING_BACK and (not local or state in (State.ACTIVATING, State.PROBATION)):
                self.condemned[target] = fence

    @rule(utc_s=st.sampled_from([999.0, 1000.0]))
    def a_tick(self, utc_s: float) -> None:
        before = self.record
        self.feed(Tick(utc_s))
        late = before.deadline() is not None and utc_s >= 1000.0
        assert late or self.record == before
        if late and before.state in (State.ACTIVATING, State.PROBATION):
            self.condemned[before.target] = before.fence

    @precondition(lambda self: self.record.terminal)
    @rule()
    def the_circuit_opens(self) -> None:
        self.give_up(Revert("WORKER_CIRCUIT_OPEN"))

    @invariant()
    def the_live_model_was_confirmed_here_or_is_on_probation(self) -> None:
        record = self.record
        if record.state is not State.PROBATION:
            assert record.live in self.ever_confirmed | {""}
        assert set(record.history) <= self.ever_confirmed

    @invariant()
    def one_whole_slot_boots(self) -> None:
        assert not self.record.live or self.record.live in self.whole
        assert not self.current or self.current in self.whole

    @invariant()
    def reports_are_dense_and_none_is_lost(self) -> None:
        stored: dict[str, list[State]] = {}
        for one in self.db.pending(1000):
            stored.setdefault(one.execution, []).append(State(one.body["state"]))
            assert one.seq == len(stored[one.execution])
        assert stored == self.told

    @invariant()
    def one_of_old_and_new_is_in_the_slot(self) -> None:
        record = self.record
        assert self.current in {record.live, record.previous, record.target}
        if record.terminal or record.state in BEFORE_ACTIVATING:
            assert self.current == record.live

    @invariant()
    def a_roll_back_goes_to_what_was_confirmed_here(self) -> None:
        if self.record.state is State.ROLLING_BACK:
            assert self.record.previous in self.ever_confirmed | {""}
            assert not self.record.local or self.record.previous != self.record.target

    @invariant()
    def attempts_are_bounded(self) -> None:
        for state, limit in MAX_ATTEMPTS.items():
            assert self.record.attempts_in(state) <= limit

    @invariant()
    def what_is_needed_is_kept(self) -> None:
        needed = {self.record.live} | (set() if self.record.terminal else {self.record.target, self.record.previous})
        assert needed - {""} <= self.record.kept


TestDevice = Device.TestCase
TestDevice.settings = settings(max_examples=120, stateful_step_count=40)
