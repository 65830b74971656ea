"""Campaigns as stories: what is decided, in which order, and what ends them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from contracts.operator import Gate
from contracts.states import State
from control_plane.domain.advance import settle
from control_plane.domain.agreement import Estimate
from control_plane.domain.campaign import Bundle, Campaign, Device, Enter, Fleet, Policy, apply, next_alarm, waits_for
from control_plane.domain.evidence import Evidence
from control_plane.domain.execution import reported
from control_plane.domain.gates import with_implicit
from control_plane.domain.wave import Wave, entered
from processing import latency

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
NEW, OLD = "n" * 64, "o" * 64
AGREEMENT = Gate(metric="agreement", limit=0.1, min_samples=150)
LATENCY = Gate(metric="latency_p95_us", limit=10_000, min_samples=100)


class Story:
    """One campaign, its fleet and a clock; devices do what the test says."""

    def __init__(
        self, *waves: tuple[str, ...], gates: tuple[Gate, ...] = (), previous: str = OLD, soak_s: float = 0, **policy: Any
    ) -> None:
        self.now, self.fence = START, 0
        numbered = tuple(Wave(number, devices, with_implicit(gates), soak_s) for number, devices in enumerate(waves, start=1))
        self.campaign = Campaign("c", Policy(**policy), numbered)
        names = [device for devices in waves for device in devices]
        self.fleet = Fleet(
            {name: Device("p", True, previous) for name in names}, {"p": Bundle(NEW, {"model:m/1": Estimate(0.932, 1080)})},
            {OLD: "model:m/1"},
        )  # fmt: skip
        self.settle()

    def _next(self) -> int:
        self.fence += 1
        return self.fence

    def settle(self, seconds: float = 0) -> Story:
        self.now += timedelta(seconds=seconds)
        self.campaign, _ = settle(self.now, self.campaign, self.fleet, self._next)
        return self

    def report(self, device: str, *states: State, code: str = "") -> Story:
        for state in states:
            self._change(device, lambda one, state=state: reported(one, state, code, "") or one)
        return self.settle()

    def evidence(self, device: str, **values: Any) -> Story:
        self._change(device, lambda one: replace(one, evidence=one.evidence + Evidence(**values)))
        return self.settle()

    def _change(self, device: str, change: Any) -> None:
        last = [one.id for one in self.campaign.executions if one.device == device][-1]
        changed = tuple(change(one) if one.id == last else one for one in self.campaign.executions)
        self.campaign = replace(self.campaign, executions=changed)

    def states(self) -> dict[str, str]:
        return {f"{one.device}:{one.kind}": one.state.value for one in self.campaign.executions}

    def waves(self) -> list[str]:
        return [wave.state for wave in self.campaign.waves]

    def confirm(self, *devices: str) -> Story:
        for device in devices:
            self.report(device, State.DOWNLOADING, State.STAGED, State.ACTIVATING, State.PROBATION, State.CONFIRMED)
        return self


def histogram(us: float, count: int) -> tuple[int, ...]:
    counts = latency.empty()
    counts[latency.bucket(us)] = count
    return tuple(counts)


def test_two_waves_and_success() -> None:
    story = Story(("a",), ("b", "c"))
    assert story.states() == {"a:install": "OFFERED"}
    story.confirm("a")
    assert story.waves() == ["PASSED", "OPEN"]
    story.confirm("b", "c")
    assert story.campaign.state == "SUCCEEDED"


def test_soak_and_latency_hold_a_wave_until_there_is_evidence() -> None:
    story = Story(("a",), ("b",), gates=(LATENCY,), soak_s=60).confirm("a")
    assert story.waves() == ["SOAKING", "PENDING"]
    story.settle(61)
    assert story.waves() == ["SOAKING", "PENDING"]
    what, until = waits_for(story.campaign)
    assert "frames of the probation: 0 of 100" in what
    assert until == START + timedelta(seconds=3600)
    story.evidence("a", frames=100, latency=histogram(300, 100))
    assert story.waves() == ["PASSED", "OPEN"]


def test_no_evidence_by_the_deadline_fails_the_wave() -> None:
    story = Story(("a",), ("b",), gates=(LATENCY,)).confirm("a").settle(3601)
    assert story.waves() == ["FAILED", "PENDING"]
    assert story.campaign.state == "ROLLING_BACK"
    assert "no evidence" in story.campaign.reason


def test_a_failed_gate_stops_at_once_and_sends_each_device_back() -> None:
    story = Story(("a", "b", "d"), ("c",)).confirm("a").report("d", State.DOWNLOADING)
    story.report("b", State.ACTIVATING, State.REVERTED, code="BUNDLE_LIMITS")
    assert story.campaign.state == "ROLLING_BACK"
    assert story.states() == {
        "a:install": "CONFIRMED", "a:rollback": "OFFERED",  # exposed
        "b:install": "REVERTED",  # is back already
        "d:install": "SUPERSEDED", "d:rollback": "OFFERED",  # may have gone on meanwhile: sent back by a higher fence
    }  # fmt: skip
    back = [one for one in story.campaign.executions if one.kind == "rollback"]
    assert {(one.target_digest, one.activate) for one in back} == {(OLD, True)}
    story.confirm("a", "d")
    assert str(story.campaign.state) == "ROLLED_BACK"
    assert story.waves() == ["FAILED", "PENDING"]


def test_devices_without_a_previous_bundle_pause_the_campaign() -> None:
    story = Story(("a", "b"), previous="").confirm("a").report("b", State.REJECTED, code="BUNDLE_PROFILE")
    assert story.campaign.state == "PAUSED"
    assert "no previous bundle to roll back to: a" in story.campaign.reason
    assert "BUNDLE_PROFILE" in story.campaign.reason
    assert waits_for(story.campaign)[0].startswith("a person")


def test_a_roll_back_that_fails_asks_a_person() -> None:
    story = Story(("a", "b")).confirm("a").report("b", State.FAILED, code="BUNDLE_GOLDEN")
    story.report("a", State.REVERTED, code="WORKER_CRASH")
    assert story.campaign.state == "PAUSED"
    assert "not rolled back: a" in story.campaign.reason


def test_on_failure_pause_takes_open_orders_back_and_leaves_the_rest() -> None:
    story = Story(("a", "b", "c", "d"), on_failure="pause").confirm("a").report("b", State.PROBATION)
    story.report("d", State.FAILED, code="BUNDLE_GOLDEN")
    assert story.campaign.state == "PAUSED"
    withdrawn = {one.device: one.withdrawn for one in story.campaign.executions}
    assert withdrawn == {"a": False, "b": False, "c": True, "d": False}
    story.report("c", State.CANCELED)
    assert story.states()["c:install"] == "CANCELED"


def test_shadow_activates_only_after_its_gates_pass() -> None:
    story = Story(("a",), gates=(AGREEMENT,), shadow_pairs=150).report("a", State.STAGED, State.SHADOWING)
    assert not story.campaign.executions[0].activate
    story.evidence("a", pairs=149, agreed=140)
    assert not story.campaign.executions[0].activate
    story.evidence("a", pairs=1, agreed=1)
    assert story.campaign.executions[0].activate


def test_a_model_that_disagrees_is_never_activated() -> None:
    story = Story(("a",), gates=(AGREEMENT,), shadow_pairs=150).report("a", State.SHADOWING).evidence("a", pairs=200, agreed=139)
    assert story.waves() == ["FAILED"]
    assert [one.state for one in story.campaign.executions] == [State.SUPERSEDED, State.OFFERED]


def test_a_bad_model_is_not_excused_by_its_own_packaging_having_seen_it() -> None:
    """Packaging measured 0.70 with an incumbent that names 97.8 % rightly; no model that is as good can agree on less than 95.6 %."""
    story = Story(("a",), gates=(AGREEMENT,), shadow_pairs=150).report("a", State.SHADOWING)
    story.fleet = replace(
        story.fleet, bundles={"p": Bundle(NEW, {"model:m/1": Estimate(0.70, 360)})}, accuracies={OLD: Estimate(0.978, 1080)}
    )
    story.evidence("a", pairs=200, agreed=139)
    assert story.waves() == ["FAILED"]
    assert "expected 0.956" in story.campaign.reason


def test_a_better_model_may_disagree_with_a_poor_incumbent() -> None:
    story = Story(("a",), gates=(AGREEMENT,), shadow_pairs=150).report("a", State.SHADOWING)
    story.fleet = replace(
        story.fleet, bundles={"p": Bundle(NEW, {"model:m/1": Estimate(0.58, 1080)})}, accuracies={OLD: Estimate(0.57, 1080)}
    )
    story.evidence("a", pairs=300, agreed=174)
    assert story.campaign.executions[0].activate


def test_a_campaign_stopped_in_its_shadow_names_all_that_was_wrong() -> None:
    """One shadow gate has failed and the other has no verdict yet: nothing is activated, and the other is waited for."""
    relative = Gate(metric="latency_p95_vs_incumbent", limit=3, min_samples=50)
    story = Story(("a",), gates=(AGREEMENT, relative), shadow_pairs=150).report("a", State.SHADOWING)
    slow = {"candidate_latency": histogram(6_800, 160), "incumbent_latency": histogram(350, 160)}
    story.evidence("a", pairs=100, agreed=69, **slow)
    assert (story.waves(), story.campaign.executions[0].activate) == (["OPEN"], False)
    story.evidence("a", pairs=60, agreed=41)
    assert story.waves() == ["FAILED"]
    assert {view.metric for view in story.campaign.waves[0].verdicts if view.verdict == "failed"} == {AGREEMENT.metric, relative.metric}


def test_a_shadow_gate_that_waits_for_ever_does_not_save_the_wave() -> None:
    relative = Gate(metric="latency_p95_vs_incumbent", limit=3, min_samples=50)
    story = Story(("a",), gates=(AGREEMENT, relative), shadow_pairs=150).report("a", State.SHADOWING)
    story.evidence("a", candidate_latency=histogram(6_800, 100), incumbent_latency=histogram(350, 100)).settle(3601)
    assert story.settle(3601).waves() == ["FAILED"]


def test_a_failed_install_stops_at_once_whatever_the_shadow_waits_for() -> None:
    story = Story(("a", "b"), gates=(AGREEMENT,), shadow_pairs=150).report("a", State.SHADOWING)
    assert story.report("b", State.FAILED, code="BUNDLE_GOLDEN").waves() == ["FAILED"]


def test_a_first_model_has_nothing_to_run_beside() -> None:
    story = Story(("a",), gates=(AGREEMENT,), shadow_pairs=150, previous="")
    assert story.campaign.executions[0].activate
    assert story.confirm("a").campaign.state == "SUCCEEDED"
    assert [view.verdict for view in story.campaign.waves[0].verdicts] == ["passed", "not_applicable"]


def test_a_busy_device_is_waited_for_and_a_replaceable_one_is_not() -> None:
    story = Story(("a", "b"))
    other = {"a": Device("p", True, OLD, "busy"), "b": Device("p", True, OLD, "replaceable")}
    story.campaign = Campaign("c", Policy(), (Wave(1, ("a", "b"), with_implicit(())),))
    story.fleet = replace(story.fleet, devices=other)
    story.settle()
    assert story.states() == {"b:install": "OFFERED"}
    story.fleet = replace(story.fleet, devices={**other, "a": Device("p", True, OLD)})
    story.settle()
    assert story.states() == {"b:install": "OFFERED", "a:install": "OFFERED"}


def test_a_device_that_left_before_its_wave_opened_is_not_counted() -> None:
    story = Story(("a",), ("b", "c"))
    story.fleet = replace(story.fleet, devices={**story.fleet.devices, "b": Device("p", False)})
    story.confirm("a", "c")
    assert story.campaign.state == "SUCCEEDED"
    assert story.campaign.waves[1].devices == ("c",)


def test_state_deadline_counts_from_the_offer_with_grace_for_the_devices_own_verdict() -> None:
    story = Story(("a",), state_deadline_s={State.DOWNLOADING: 60.0}).report("a", State.DOWNLOADING).settle(89)
    assert next_alarm(story.campaign) == START + timedelta(seconds=90)
    assert story.states()["a:install"] == "DOWNLOADING"
    story.settle(1)
    assert story.campaign.executions[0].code == "ASSIGNMENT_DEADLINE"
    assert story.campaign.state == "ROLLING_BACK"


def test_stragglers_time_out_at_the_waves_deadline_and_the_rest_is_judged() -> None:
    half = Gate(metric="install_success", limit=0.5)
    story = Story(("a", "b"), ("c",), gates=(half,)).confirm("a").settle(3601)
    assert story.states()["b:install"] == "TIMED_OUT"
    assert story.waves() == ["PASSED", "OPEN"]


def test_a_late_report_changes_nothing_that_has_ended() -> None:
    story = Story(("a",)).confirm("a")
    story.report("a", State.DOWNLOADING, State.REVERTED)
    assert (story.campaign.state, story.states()) == ("SUCCEEDED", {"a:install": "CONFIRMED"})


def test_abort_takes_back_what_is_not_activated() -> None:
    story = Story(("a", "b")).report("a", State.PROBATION)
    story.campaign = apply(story.campaign, Enter("ABORTED"), story.now, story._next)
    story.settle()
    assert [(one.device, one.withdrawn) for one in story.campaign.executions] == [("a", False), ("b", True)]
    story.report("a", State.CONFIRMED)
    assert (story.campaign.state, story.states()["a:install"]) == ("ABORTED", "CONFIRMED")


def test_moves_without_a_row_are_bugs() -> None:
    story = Story(("a",)).confirm("a")
    with pytest.raises(ValueError, match="cannot go"):
        apply(story.campaign, Enter("PAUSED"), story.now, story._next)
    with pytest.raises(ValueError, match="cannot go"):
        entered(story.campaign.waves[0], "OPEN")
