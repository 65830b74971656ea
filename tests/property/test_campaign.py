"""Campaigns under any interleaving of devices, time and two schedulers.

The machine keeps what a database would: the campaign and its revision. Each scheduler decides on the copy that it read, and
writes only when the revision is still the one it read. Devices report what their table allows, lose their link, fail, and
answer late. After each step the invariants of the campaign are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.operator import Gate
from contracts.states import TERMINAL, State
from control_plane.domain.advance import settle
from control_plane.domain.campaign import Bundle, Campaign, Device, Fleet, Policy, waits_for
from control_plane.domain.evidence import Evidence
from control_plane.domain.execution import REPORTED, Execution, reported
from control_plane.domain.gates import IMPLICIT
from control_plane.domain.wave import Wave
from processing import latency

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
NEW, OLD = "n" * 64, "o" * 64
DEVICES = tuple(f"d{number}" for number in range(5))
LATENCY = Gate(metric="latency_p95_us", limit=10_000, min_samples=10)


def samples(us: float) -> Evidence:
    counts = latency.empty()
    counts[latency.bucket(us)] = 5
    return Evidence(frames=5, latency=tuple(counts))


@dataclass
class Stored:
    """What the database holds. `history`: every state that an execution ever had, as the event log would."""

    campaign: Campaign
    history: dict[str, list[State]] = field(default_factory=dict)
    offered_in: list[tuple[int, dict[int, str]]] = field(default_factory=list)  # wave of an offer, states of all waves then

    def write(self, before: Campaign, after: Campaign) -> bool:
        if before.revision != self.campaign.revision:
            return False
        self.campaign = replace(after, revision=before.revision + 1)
        for execution in after.executions:
            states = self.history.setdefault(execution.id, [])
            if not states or states[-1] is not execution.state:
                states.append(execution.state)
        return True


class CampaignMachine(RuleBasedStateMachine):
    @initialize(
        sizes=st.sampled_from([(1, 4), (2, 3), (1, 2, 2), (5,)]),
        with_previous=st.sets(st.sampled_from(DEVICES)),
        on_failure=st.sampled_from(["pause", "rollback"]),
        limit=st.sampled_from([1.0, 0.5]),
        deadline=st.sampled_from([{}, {State.DOWNLOADING: 60.0, State.OFFERED: 100.0}]),
    )
    def begin(
        self,
        sizes: tuple[int, ...],
        with_previous: set[str],
        on_failure: Literal["pause", "rollback"],
        limit: float,
        deadline: dict[State, float],
    ) -> None:
        left, waves = list(DEVICES), []
        for number, size in enumerate(sizes, start=1):
            gates = (IMPLICIT.model_copy(update={"limit": limit}), LATENCY)
            waves.append(Wave(number, tuple(left[:size]), gates, soak_s=5))
            left = left[size:]
        self.now = START
        self.store = Stored(Campaign("c", Policy(0, 300, deadline, on_failure), tuple(waves)))
        self.fleet = Fleet({d: Device("p", True, OLD if d in with_previous else "") for d in DEVICES}, {"p": Bundle(NEW)})
        self.fence = 0
        self.held: list[Campaign] = []  # what a slow scheduler has read

    def _next_fence(self) -> int:
        self.fence += 1
        return self.fence

    def _schedule(self, read: Campaign) -> None:
        after, steps = settle(self.now, read, self.fleet, self._next_fence)
        if not steps or not self.store.write(read, after):
            return
        for decision, then in steps:
            if getattr(decision, "state", None) is State.OFFERED:
                offered = next(one for one in then.executions if one.id == decision.execution)  # type: ignore[union-attr]
                if offered.kind == "install":
                    self.store.offered_in.append((offered.wave, {wave.number: wave.state for wave in then.waves}))

    # -- two schedulers

    @rule()
    def schedule(self) -> None:
        self._schedule(self.store.campaign)

    @rule()
    def read(self) -> None:
        self.held.append(self.store.campaign)

    @precondition(lambda self: self.held)
    @rule()
    def schedule_on_what_was_read(self) -> None:
        self._schedule(self.held.pop(0))

    @rule(seconds=st.sampled_from([1, 10, 60, 301]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    # -- devices

    def _report(self, execution: Execution, after: Execution | None) -> None:
        if after is not None and after != execution:
            campaign = self.store.campaign
            executions = tuple(after if one.id == execution.id else one for one in campaign.executions)
            self.store.write(campaign, replace(campaign, executions=executions))

    @rule(which=st.integers(0, 99), state=st.sampled_from(sorted(State)), good=st.booleans())
    def report(self, which: int, state: State, good: bool) -> None:
        """Any state at any time: the table sorts out what counts."""
        executions = self.store.campaign.executions
        if executions:
            execution = executions[which % len(executions)]
            self._report(execution, reported(execution, state, "" if good else "BUNDLE_GOLDEN", ""))

    @rule(which=st.integers(0, 99), good=st.booleans())
    def proceed(self, which: int, good: bool) -> None:
        """A device goes on by one plausible step."""
        open_ = [one for one in self.store.campaign.executions if REPORTED[one.state]]
        if open_:
            execution = open_[which % len(open_)]
            path = [State.DOWNLOADING, State.ACTIVATING, State.PROBATION, State.CONFIRMED]
            state = next((one for one in path if one in REPORTED[execution.state]), State.REVERTED)
            self._report(execution, reported(execution, state if good else sorted(REPORTED[execution.state])[-1], "", ""))

    @rule(which=st.integers(0, 99), us=st.sampled_from([300.0, 300.0, 300.0, 50_000.0]))
    def window(self, which: int, us: float) -> None:
        executions = self.store.campaign.executions
        if executions:
            execution = executions[which % len(executions)]
            self._report(execution, replace(execution, evidence=execution.evidence + samples(us)))

    # -- what must hold

    @invariant()
    def no_offer_beyond_a_gate_that_has_not_passed(self) -> None:
        for wave, states in self.store.offered_in:
            assert all(states[number] == "PASSED" for number in states if number < wave)
            assert states[wave] in ("OPEN", "SOAKING")

    @invariant()
    def at_most_one_open_execution_for_a_device(self) -> None:
        open_ = [one.device for one in self.store.campaign.executions if one.state not in TERMINAL]
        assert len(open_) == len(set(open_))

    @invariant()
    def terminal_states_never_change(self) -> None:
        for states in self.store.history.values():
            assert all(state not in TERMINAL for state in states[:-1])

    @invariant()
    def counts_are_the_fold_of_the_history(self) -> None:
        now = {one.id: one.state for one in self.store.campaign.executions}
        assert now == {name: states[-1] for name, states in self.store.history.items()}

    @invariant()
    def a_passed_wave_was_proven(self) -> None:
        for wave in self.store.campaign.waves:
            if wave.state == "PASSED":
                installs = [one for one in self.store.campaign.executions if one.wave == wave.number and one.kind == "install"]
                confirmed = sum(State.CONFIRMED in self.store.history[one.id] for one in installs)
                assert confirmed >= wave.gates[0].limit * len(wave.devices)
                assert sum(sum(one.evidence.latency) for one in installs) >= LATENCY.min_samples

    @invariant()
    def success_needs_every_wave(self) -> None:
        if self.store.campaign.state == "SUCCEEDED":
            assert all(wave.state == "PASSED" for wave in self.store.campaign.waves)

    @invariant()
    def roll_back_goes_to_the_devices_own_previous(self) -> None:
        for one in self.store.campaign.executions:
            if one.kind == "rollback":
                assert one.target_digest == self.fleet.devices[one.device].confirmed_digest == OLD
                older = [other.fence for other in self.store.campaign.executions if other.device == one.device and other.id != one.id]
                assert one.fence > max(older)

    @invariant()
    def who_waits_says_for_what(self) -> None:
        campaign = self.store.campaign
        if campaign.state in ("RUNNING", "PAUSED") and campaign.executions:
            assert waits_for(campaign)[0] or all(wave.state in ("PASSED", "PENDING") for wave in campaign.waves)


CampaignMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCampaign = CampaignMachine.TestCase


def test_the_fold_of_evidence_is_the_same_in_any_order() -> None:
    some = [samples(us) for us in (100, 2_000, 40_000)]
    assert sum(some, Evidence()) == sum(reversed(some), Evidence())
