"""Whatever happens in whatever order: the promises of the update table, against a world of two slots and a disk."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.states import TERMINAL, State
from edge_agent.core.orders import Order
from edge_agent.core.record import Record, from_json, to_json
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
    step,
)

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
        self.record = Record()
        self.order: Order | None = None
        self.fence = 0
        self.current = ""  # what the slot folder's link names
        self.ever_confirmed: set[str] = set()
        self.ended: dict[tuple[str, str], State] = {}  # (execution, kind) -> terminal state
        self.condemned: dict[str, int] = {}

    def feed(self, event: Event) -> tuple[Any, ...]:
        record, effects = step(self.record, event)
        self.record = from_json(to_json(record))
        assert self.record == record
        for effect in effects:
            if isinstance(effect, Report):
                self.reported(effect)
        return effects

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
        if work is Work.ACTIVATE:
            self.current = self.record.target
        elif work is Work.ROLL_BACK:
            self.current = self.record.previous
        elif work is Work.TIDY:
            self.current = self.record.live

    @rule(digest=st.sampled_from(DIGESTS), kind=st.sampled_from(["install", "rollback"]), activate=st.booleans())
    def a_new_order(self, digest: str, kind: str, activate: bool) -> None:
        self.fence += 1
        self.order = Order(self.fence, kind, f"c{self.fence}/d/1", self.fence, "p", digest, 9, activate=activate)
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

    @rule(cut=st.booleans())
    def work(self, cut: bool) -> None:
        """Begin the state's work; with `cut` the power goes after it, before its outcome is known."""
        for effect in self.feed(Start()):
            if isinstance(effect, Run):
                self.run(effect.work)
                if not cut:
                    self.feed(Done())

    @precondition(lambda self: not self.record.terminal)
    @rule(local=st.booleans())
    def a_failure(self, local: bool) -> None:
        target, fence, state = self.record.target, self.record.fence, self.record.state
        if state is State.OFFERED or not local or state in (State.ACTIVATING, State.PROBATION):
            self.feed(Fault("WORKER_START") if local else Refused("BUNDLE_GOLDEN"))
            if state is not State.ROLLING_BACK and (not local or state in (State.ACTIVATING, State.PROBATION)):
                self.condemned[target] = fence

    @rule()
    def a_tick_long_after(self) -> None:
        self.feed(Tick(1e12))

    @precondition(lambda self: self.record.terminal)
    @rule()
    def the_incumbent_is_given_up(self) -> None:
        before = self.record
        self.feed(Revert("WORKER_CIRCUIT_OPEN"))
        if self.record.state is State.ROLLING_BACK:
            self.condemned[before.confirmed] = before.fence

    @invariant()
    def the_live_model_was_confirmed_here_or_is_on_probation(self) -> None:
        record = self.record
        if record.state is not State.PROBATION:
            assert record.live in self.ever_confirmed | {""}
        assert set(record.history) <= self.ever_confirmed

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
TestDevice.settings = settings(max_examples=60, stateful_step_count=40)
