"""Campaigns under any interleaving of devices, people, time and two schedulers.

The machine keeps what a database would: the campaign and its revision. Whoever decides does so on the copy that he read, and
writes only when the revision is still the one he read. Devices report anything at any time: states are skipped, come late,
come twice. A person pauses, resumes and aborts whenever he likes. After each step the invariants I1 to I10 of
docs/explanation/campaigns.md are looked at; those that need the database are in test_executions.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from math import ceil
from typing import Literal, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.errors import RejectedError
from contracts.operator import Gate
from contracts.states import TERMINAL, State
from control_plane.domain.advance import settle
from control_plane.domain.campaign import Activate, Bundle, Campaign, Decision, Device, Fleet, Move, Policy, deadline_of, waits_for
from control_plane.domain.evidence import Evidence
from control_plane.domain.execution import BEFORE_ACTIVATING, REPORTED, Execution, reported
from control_plane.domain.gates import IMPLICIT
from control_plane.domain.steering import ACTS, Act, steered
from control_plane.domain.wave import Wave
from processing import latency

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
NEW, OLD = "n" * 64, "o" * 64
DEVICES = tuple(f"d{number}" for number in range(7))
LATENCY = Gate(metric="latency_p95_us", limit=10_000, min_samples=100)
WAVES = [(1,), (2,), (1, 1), (3,), (1, 2), (7,), (1, 2, 4), (3, 4)]
ENDED = ("SUCCEEDED", "ROLLED_BACK", "ABORTED")
Policies = Literal["pause", "rollback"]


def samples(us: float, frames: int = 60) -> Evidence:
    counts = latency.empty()
    counts[latency.bucket(us)] = frames
    return Evidence(frames=frames, latency=tuple(counts), pairs=frames, agreed=frames)


@dataclass
class Stored:
    """What the database holds. `history`: every state that an execution ever had, as the event log would."""

    campaign: Campaign
    history: dict[str, list[State]] = field(default_factory=dict)
    denominators: dict[int, tuple[str, ...]] = field(default_factory=dict)  # devices of a wave when it opened
    steps: list[tuple[Decision, Campaign]] = field(default_factory=list)  # all that was written, with the campaign after it

    def write(self, before: Campaign, after: Campaign, steps: list[tuple[Decision, Campaign]]) -> bool:
        if before.revision != self.campaign.revision:
            return False
        self.campaign = replace(after, revision=before.revision + 1)
        self.steps += steps
        for execution in after.executions:
            states = self.history.setdefault(execution.id, [])
            if not states or states[-1] is not execution.state:
                states.append(execution.state)
        for wave in after.waves:
            if wave.state != "PENDING":
                self.denominators.setdefault(wave.number, wave.devices)
        return True


def possible(campaign: Campaign) -> set[Act]:
    """What a person may do now: the table, but for a wave that has failed."""
    failed = any(wave.state == "FAILED" for wave in campaign.waves)
    return {act for state, act in ACTS if state == campaign.state and not (act == "resume" and failed)}


class CampaignMachine(RuleBasedStateMachine):
    @initialize(
        sizes=st.sampled_from(WAVES),
        without_previous=st.sets(st.sampled_from(DEVICES)),
        on_failure=st.sampled_from(["pause", "rollback"]),
        limit=st.sampled_from([1.0, 0.7, 0.5, 0.34]),
        pairs=st.sampled_from([0, 10]),
        busy_for_ever=st.booleans(),
        rounds=st.integers(0, 8),
        deadline=st.sampled_from([{}, {State.DOWNLOADING: 60.0, State.OFFERED: 100.0, State.ACTIVATING: 150.0, State.PROBATION: 200.0}]),
    )
    def begin(
        self, sizes: tuple[int, ...], without_previous: set[str], on_failure: Policies, limit: float, pairs: int, busy_for_ever: bool,
        rounds: int, deadline: dict[State, float],
    ) -> None:  # fmt: skip
        left, waves = list(DEVICES[: sum(sizes)]), []
        for number, size in enumerate(sizes, start=1):
            gates = (IMPLICIT.model_copy(update={"limit": limit}), LATENCY)
            waves.append(Wave(number, tuple(left[:size]), gates, soak_s=5))
            left = left[size:]
        self.now, self.fence, self.busy_for_ever = START, 0, busy_for_ever
        self.store = Stored(Campaign("c", Policy(pairs, 300, deadline, on_failure), tuple(waves)))
        self.before = {name: "" if name in without_previous else OLD for name in DEVICES[: sum(sizes)]}
        self.fleet = Fleet({name: Device("p", True, digest) for name, digest in self.before.items()}, {"p": Bundle(NEW)})
        self.held: list[Campaign] = []  # what somebody slow has read
        self.settled: Campaign | None = None  # the campaign when it was last settled, while nothing has happened since
        for _ in range(rounds):
            self.all_go_on()

    def _next_fence(self) -> int:
        self.fence += 1
        return self.fence

    def _settle(self, read: Campaign, decided: list[Decision]) -> None:
        after, steps = settle(self.now, read, self.fleet, self._next_fence, decided)
        if (not steps and read.revision == self.store.campaign.revision) or self.store.write(read, after, steps):
            self.settled = self.store.campaign

    # -- two schedulers, and people

    @rule()
    def schedule(self) -> None:
        self._settle(self.store.campaign, [])

    @rule()
    def read(self) -> None:
        self.held.append(self.store.campaign)

    @precondition(lambda self: self.held)
    @rule()
    def schedule_on_what_was_read(self) -> None:
        self._settle(self.held.pop(0), [])

    @rule(late=st.sampled_from([False, False, True]))
    def pause_or_resume(self, late: bool) -> None:
        """On what is there now, or on what was seen a while ago: then the revision stops it."""
        read = self.held.pop(0) if late and self.held else self.store.campaign
        for act in possible(read) - {"abort"}:
            self._settle(read, steered(self.now, read, act, "a person"))

    @precondition(lambda self: self.store.campaign.executions)
    @rule(sure=st.sampled_from([False, False, True]))
    def abort(self, sure: bool) -> None:
        if sure and "abort" in possible(self.store.campaign):
            self._settle(self.store.campaign, steered(self.now, self.store.campaign, "abort", "a person"))

    @rule(seconds=st.sampled_from([1, 10, 60, 301]))
    def wait(self, seconds: int) -> None:
        self.now, self.settled = self.now + timedelta(seconds=seconds), None

    # -- devices

    def _device(self, name: str, **changes: object) -> None:
        self.fleet = replace(self.fleet, devices={**self.fleet.devices, name: replace(self.fleet.devices[name], **changes)})  # type: ignore[arg-type]
        self.settled = None

    @rule(which=st.integers(0, 6), other=st.sampled_from(["none", "busy"]))
    def another_campaign(self, which: int, other: str) -> None:
        """Takes a device that has no order from us, and lets it go."""
        name = list(self.before)[which % len(self.before)]
        mine = {one.device for one in self.store.campaign.executions if one.open}
        if other == "none" or name not in mine:
            self._device(name, other=other)

    @precondition(lambda self: len(self.before) > 1)
    @rule(which=st.integers(0, 6))
    def leave(self, which: int) -> None:
        if sum(device.active for device in self.fleet.devices.values()) > 1:
            self._device(list(self.before)[which % len(self.before)], active=False)

    def _report(self, execution: Execution, after: Execution | None) -> None:
        if after is None or after == execution:
            return
        campaign = self.store.campaign
        executions = tuple(after if one.id == execution.id else one for one in campaign.executions)
        self.store.write(campaign, replace(campaign, executions=executions), [])
        self.settled = None

    def _moves(self, execution: Execution, state: State, code: str = "") -> None:
        if state is State.CONFIRMED and execution.state is not State.QUEUED:  # true of the device, also when it comes too late to count
            self._device(execution.device, confirmed_digest=execution.target_digest)
        self._report(execution, reported(execution, state, code, ""))

    @rule(which=st.integers(0, 99), state=st.sampled_from(sorted(State)), good=st.booleans())
    def report(self, which: int, state: State, good: bool) -> None:
        """Any state at any time, also of an execution that ended long ago: the table sorts out what counts."""
        executions = self.store.campaign.executions
        if executions:
            self._moves(executions[which % len(executions)], state, "" if good else "BUNDLE_GOLDEN")

    @rule()
    def all_go_on(self) -> None:
        """The usual case: whoever is asked does a step, and it is seen."""
        self._answer()
        self.now += timedelta(seconds=6)
        self.schedule()

    @rule(which=st.integers(0, 99), good=st.sampled_from([True, True, False]))
    def proceed(self, which: int, good: bool) -> None:
        """A device goes on by one plausible step."""
        open_ = [one for one in self.store.campaign.executions if REPORTED[one.state]]
        if open_:
            execution = open_[which % len(open_)]
            self._moves(execution, _next_state(execution) if good else sorted(REPORTED[execution.state])[-1])

    @rule(which=st.integers(0, 99), us=st.sampled_from([300.0, 300.0, 300.0, 50_000.0]))
    def window(self, which: int, us: float) -> None:
        executions = self.store.campaign.executions
        if executions:
            execution = executions[which % len(executions)]
            self._report(execution, replace(execution, evidence=execution.evidence + samples(us)))

    # -- what must hold

    @invariant()
    def whatever_else_a_person_asks_for_is_refused(self) -> None:
        for act in set(get_args(Act)) - possible(self.store.campaign):
            with pytest.raises(RejectedError, match="CAMPAIGN_STATE"):
                steered(self.now, self.store.campaign, act, "a person")

    @invariant()
    def i1_at_most_one_open_execution_for_a_device(self) -> None:
        open_ = [one.device for one in self.store.campaign.executions if one.open]
        assert len(open_) == len(set(open_))

    @invariant()
    def i2_no_offer_beyond_a_gate_that_has_not_passed(self) -> None:
        for decision, then in self.store.steps:
            if isinstance(decision, Move) and decision.state is State.OFFERED:
                one = next(one for one in then.executions if one.id == decision.execution)
                states = {wave.number: wave.state for wave in then.waves}
                assert one.kind == "rollback" or states[one.wave] in ("OPEN", "SOAKING")
                assert all(states[number] == "PASSED" for number in states if number < one.wave)

    @invariant()
    def i3_terminal_states_never_change(self) -> None:
        for states in self.store.history.values():
            assert all(state not in TERMINAL for state in states[:-1])

    @invariant()
    def i4_a_roll_back_leads_to_what_this_device_had_confirmed_before(self) -> None:
        for one in self.store.campaign.executions:
            assert one.previous_digest == self.before[one.device]
            assert one.kind == "install" or one.target_digest == one.previous_digest == OLD

    @invariant()
    def i5_no_trial_outlives_its_deadline(self) -> None:
        if self.settled is not None:
            for one in self.settled.executions:
                deadline = deadline_of(one, self.settled.policy)
                assert not one.open or deadline is None or self.now < deadline

    @invariant()
    def i6_counts_are_the_fold_of_the_history(self) -> None:
        now = {one.id: one.state for one in self.store.campaign.executions}
        assert now == {name: states[-1] for name, states in self.store.history.items()}

    @invariant()
    def i7_leave_to_activate_is_given_by_a_running_campaign_alone(self) -> None:
        for decision, then in self.store.steps:
            if isinstance(decision, Activate):
                one = next(one for one in then.executions if one.id == decision.execution)
                assert (then.state, one.evidence.pairs >= then.policy.shadow_pairs) == ("RUNNING", True)
        if self.settled is not None and self.settled.state in ("PAUSED", "ABORTED"):
            begun = [one for one in self.settled.executions if one.kind == "install" and one.state in BEFORE_ACTIVATING]
            assert all(one.withdrawn for one in begun), "who has not activated is told to stop"

    @invariant()
    def i8_only_the_open_wave_is_disrupted(self) -> None:
        if self.store.campaign.state == "RUNNING":
            running = [wave.number for wave in self.store.campaign.waves if wave.state in ("OPEN", "SOAKING")]
            assert {one.wave for one in self.store.campaign.executions if one.open} <= set(running[:1])
            assert len(running) <= 1

    @invariant()
    def i9_who_decided_on_an_older_revision_wrote_nothing(self) -> None:
        fences = [one.fence for one in self.store.campaign.executions]
        assert fences == sorted(set(fences)), "each order is decided once, and in order"

    @invariant()
    def a_passed_wave_was_proven_by_the_devices_it_opened_with(self) -> None:
        for wave in self.store.campaign.waves:
            if wave.state == "PASSED":
                installs = [one for one in self.store.campaign.executions if one.wave == wave.number and one.kind == "install"]
                confirmed = {one.device for one in installs if State.CONFIRMED in self.store.history[one.id]}
                assert wave.devices == self.store.denominators[wave.number]
                assert len(confirmed) >= ceil(wave.gates[0].limit * len(wave.devices) - 1e-9) > 0
                assert sum(sum(one.evidence.latency) for one in installs) >= LATENCY.min_samples
        if self.store.campaign.state == "SUCCEEDED":
            assert all(wave.state == "PASSED" for wave in self.store.campaign.waves)

    @invariant()
    def who_waits_says_for_what(self) -> None:
        campaign = self.store.campaign
        if campaign.state in ("RUNNING", "PAUSED") and campaign.executions:
            assert waits_for(campaign)[0] or all(wave.state in ("PASSED", "PENDING") for wave in campaign.waves)

    def teardown(self) -> None:
        """I8, the other half: nobody starves. With links that work and devices that do as they are told, it comes to an end."""
        if not hasattr(self, "store"):
            return
        for name in () if self.busy_for_ever else self.before:
            self._device(name, other="none")
        for _ in range(12 * len(self.store.campaign.waves)):
            self.schedule()
            self._answer()
            self.now += timedelta(seconds=30)
        self.schedule()
        campaign = self.store.campaign
        assert campaign.state in ENDED or (campaign.state == "PAUSED" and waits_for(campaign)[0].startswith("a person")), campaign
        assert not any(one.open for one in campaign.executions)

    def _answer(self) -> None:
        for one in self.store.campaign.executions:
            if self.fleet.devices[one.device].active and one.open:
                stopped = one.withdrawn and one.state in BEFORE_ACTIVATING
                self._moves(one, State.CANCELED if stopped else _next_state(one))
        for one in self.store.campaign.executions:
            self._report(one, replace(one, evidence=one.evidence + samples(300.0, 200)))


def _next_state(execution: Execution) -> State:
    """Where a device goes next; it stays where it is when it has no leave to activate."""
    path = [State.DOWNLOADING, State.SHADOWING, State.ACTIVATING, State.PROBATION, State.CONFIRMED]
    state = next((one for one in path if one in REPORTED[execution.state]), State.REVERTED)
    return execution.state if state is State.ACTIVATING and not execution.activate else state


CampaignMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestCampaign = CampaignMachine.TestCase


# -- thresholds, one by one


@pytest.mark.parametrize("total", [1, 2, 3, 7])
@pytest.mark.parametrize("limit", [1.0, 0.9, 0.7, 2 / 3, 0.5, 0.34, 0.1])
def test_a_wave_passes_with_the_smallest_whole_number_of_devices_that_is_enough(total: int, limit: float) -> None:
    gate = IMPLICIT.model_copy(update={"limit": limit})
    needed = next(count for count in range(total + 1) if count / total >= limit - 1e-9)
    for lost in range(total + 1):
        numbers = iter(range(1, 100))
        wave = Wave(1, DEVICES[:total], (gate,))
        fleet = Fleet({name: Device("p", True, OLD) for name in DEVICES[:total]}, {"p": Bundle(NEW)})
        campaign, _ = settle(START, Campaign("c", Policy(), (wave,)), fleet, lambda: next(numbers))  # noqa: B023
        for number, one in enumerate(campaign.executions):
            state, code = (State.FAILED, "BUNDLE_GOLDEN") if number < lost else (State.CONFIRMED, "")
            after = reported(one, state, code, "")
            assert after is not None
            executions = tuple(after if other.id == one.id else other for other in campaign.executions)
            campaign, _ = settle(START, replace(campaign, executions=executions), fleet, lambda: next(numbers))  # noqa: B023
            failed = min(number + 1, lost) > total - needed
            assert (campaign.waves[0].state == "FAILED") == failed, "at once, not when the last one has answered"
            if failed:
                break
        assert campaign.waves[0].state == ("PASSED" if total - lost >= needed else "FAILED")


def test_the_fold_of_evidence_is_the_same_in_any_order() -> None:
    some = [samples(us) for us in (100, 2_000, 40_000)]
    assert sum(some, Evidence()) == sum(reversed(some), Evidence())
