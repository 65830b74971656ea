"""Pause, resume, abort: what a person may do to a campaign, when, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from contracts.errors import RejectedError
from contracts.operator import CampaignState, Gate
from contracts.states import State
from control_plane.domain.advance import settle
from control_plane.domain.campaign import Device, next_alarm
from control_plane.domain.steering import ACTS, Act, steered
from tests.unit.test_campaign import LATENCY, NEW, OLD, Story


def steer(story: Story, act: Act) -> Story:
    decided = steered(story.now, story.campaign, act, "operator:test")
    story.campaign, _ = settle(story.now, story.campaign, story.fleet, story._next, decided)
    return story


def installs(story: Story) -> list[tuple[str, str, bool]]:
    return [(one.id, one.state.value, one.withdrawn) for one in story.campaign.executions]


@pytest.mark.parametrize("state", get_args(CampaignState))
@pytest.mark.parametrize("act", get_args(Act))
def test_what_the_table_has_no_row_for_is_refused(state: CampaignState, act: Act) -> None:
    story = Story(("a",))
    story.campaign = replace(story.campaign, state=state)
    if (state, act) in ACTS:
        assert steer(story, act).campaign.state == ACTS[state, act]
        return
    with pytest.raises(RejectedError, match=rf"CAMPAIGN_STATE.*{act} is not possible: it is {state}"):
        steered(story.now, story.campaign, act, "operator:test")


def test_a_pause_takes_back_what_is_not_activated_and_a_resume_asks_anew() -> None:
    story = Story(("a", "b"), ("c",)).report("a", State.PROBATION).report("b", State.STAGED)
    steer(story, "pause")
    assert installs(story) == [("c/a/1", "PROBATION", False), ("c/b/1", "STAGED", True)]
    story.report("b", State.CANCELED).report("a", State.CONFIRMED)
    assert (story.campaign.state, story.waves()) == ("PAUSED", ["OPEN", "PENDING"]), "nothing new begins, whatever is reported"
    steer(story, "resume")
    assert installs(story)[2:] == [("c/b/2", "OFFERED", False)]
    again = story.campaign.executions[2]
    assert again.fence > max(one.fence for one in story.campaign.executions[:2])
    story.confirm("b")
    assert story.waves() == ["PASSED", "OPEN"]
    assert story.confirm("c").campaign.state == "SUCCEEDED"


def test_who_has_not_answered_the_pause_is_asked_anew_all_the_same() -> None:
    story = steer(steer(Story(("a",)).report("a", State.DOWNLOADING), "pause"), "resume")
    assert [state for _, state, _ in installs(story)] == ["SUPERSEDED", "OFFERED"]


def test_a_device_that_was_asked_twice_goes_back_to_what_it_had_before_the_campaign() -> None:
    """The first order was carried out unseen: the device says CONFIRMED when it has been given up already."""
    story = Story(("a", "b"), state_deadline_s={State.DOWNLOADING: 60.0}).report("a", State.DOWNLOADING)
    steer(story, "pause").settle(100)
    assert story.states()["a:install"] == "TIMED_OUT"
    story.fleet = replace(story.fleet, devices={**story.fleet.devices, "a": Device("p", True, NEW)})
    steer(story, "resume").report("b", State.FAILED, code="BUNDLE_GOLDEN")
    back = [one for one in story.campaign.executions if one.kind == "rollback"]
    assert [(one.device, one.target_digest) for one in back] == [("a", OLD)]


def test_a_resumed_wave_has_its_whole_time_again() -> None:
    story = Story(("a",), gates=(LATENCY,)).confirm("a")
    steer(story, "pause").settle(10_000)
    assert next_alarm(story.campaign) is None, "nothing becomes due by itself while it is paused"
    steer(story, "resume")
    assert story.waves() == ["SOAKING"]
    assert story.settle(3599).waves() == ["SOAKING"]
    assert story.settle(1).waves() == ["FAILED"]


def test_a_gates_verdict_is_not_overruled() -> None:
    story = Story(("a", "b"), on_failure="pause").report("a", State.FAILED, code="BUNDLE_GOLDEN")
    with pytest.raises(RejectedError, match=r"CAMPAIGN_STATE.*wave 1 has failed"):
        steer(story, "resume")
    assert steer(story, "abort").campaign.state == "ABORTED"


def test_a_failure_in_the_pause_is_judged_at_the_resume() -> None:
    story = steer(Story(("a", "b")).report("a", State.PROBATION).report("b", State.PROBATION), "pause")
    story.report("a", State.REVERTED, code="BUNDLE_LIMITS")
    assert story.campaign.state == "PAUSED"
    assert steer(story, "resume").campaign.state == "ROLLING_BACK"


def test_a_device_that_leaves_the_fleet_holds_nobody() -> None:
    story = Story(("a", "b")).report("a", State.FAILED, code="BUNDLE_GOLDEN")
    assert story.campaign.state == "ROLLING_BACK"
    story.fleet = replace(story.fleet, devices={**story.fleet.devices, "b": Device("p", False, OLD)})
    assert story.settle().campaign.state == "ROLLED_BACK"
    assert story.states()["b:rollback"] == "SUPERSEDED"


def test_a_device_that_stays_busy_elsewhere_is_not_waited_for_beyond_the_deadline() -> None:
    story = Story(("a", "b"), ("c",), gates=(Gate(metric="install_success", limit=0.5, min_samples=2),))
    steer(story.confirm("a"), "pause").report("b", State.CANCELED)
    story.fleet = replace(story.fleet, devices={**story.fleet.devices, "b": Device("p", True, OLD, "busy")})
    steer(story, "resume")
    assert story.settle(3599).waves() == ["OPEN", "PENDING"]
    assert story.settle(1).waves() == ["FAILED", "PENDING"]


def test_a_wave_that_has_enough_does_not_hang_on_a_device_that_was_never_free() -> None:
    story = Story(("a", "b"), ("c",), gates=(Gate(metric="install_success", limit=0.5),))
    steer(story.confirm("a"), "pause").report("b", State.CANCELED)
    story.fleet = replace(story.fleet, devices={**story.fleet.devices, "b": Device("p", True, OLD, "busy")})
    assert steer(story, "resume").settle(3600).waves() == ["PASSED", "OPEN"]
