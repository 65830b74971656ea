"""From what is read of a site to what is drawn: waves, phases, versions, refusals, kills, absences, rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contracts.errors import CODES
from contracts.operator import EventView
from deploy.local.picture import campaigns, faults
from deploy.local.picture.assembly import facts
from deploy.local.picture.facts import Away, Facts, Mark, Phase, Stretch
from tests.simulators.recorded_run import BEGAN, DEVICES, DIGESTS, recorded, utc

ZERO_S = BEGAN.timestamp()


@pytest.fixture(scope="module")
def seen() -> Facts:
    return facts(recorded())


def since_began(stretch: Stretch) -> tuple[int, str, float, float]:
    return stretch.wave, stretch.state, round(stretch.from_s - ZERO_S, 1), round(stretch.to_s - ZERO_S, 1)


def test_a_wave_is_in_each_state_until_its_next_one(seen: Facts) -> None:
    second = next(campaign for campaign in seen.campaigns if campaign.id == "second-1")
    assert [since_began(stretch) for stretch in second.stretches] == [
        (1, "OPEN", 45.1, 56.0), (1, "SOAKING", 56.0, 58.0), (1, "PASSED", 58.0, 58.0),
        (2, "OPEN", 58.0, 70.0), (2, "SOAKING", 70.0, 72.0), (2, "PASSED", 72.0, 72.0),
    ]  # fmt: skip


def test_a_wave_that_is_open_when_its_campaign_is_aborted_ends_with_it() -> None:
    read = recorded()
    ended = [event for event in read.events if event.subject == "shadow-1" and event.data.get("state") not in ("FAILED",)]
    shadow = next(one for one in campaigns.campaigns(ended, read.campaigns, ZERO_S + 500) if one.id == "shadow-1")
    assert [since_began(stretch) for stretch in shadow.stretches] == [(1, "OPEN", 125.1, 138.0)]


def test_a_wave_that_is_under_way_lasts_until_now() -> None:
    read = recorded()
    begun = [event for event in read.events if event.subject == "shadow-1" and event.data.get("state") in (None, "OPEN")]
    shadow = next(one for one in campaigns.campaigns(begun, read.campaigns, ZERO_S + 500) if one.id == "shadow-1")
    assert [since_began(stretch) for stretch in shadow.stretches] == [(1, "OPEN", 125.1, 500.0)]


def test_a_roll_back_lasts_until_every_device_is_back(seen: Facts) -> None:
    back = {campaign.id: campaign.rolled_back for campaign in seen.campaigns}
    assert back["exposed-1"] == (ZERO_S + 160, ZERO_S + 167)
    assert [name for name, times in back.items() if times] == ["exposed-1"]


def test_a_devices_phases_are_those_of_its_executions_and_end_with_them(seen: Facts) -> None:
    first = [(phase.state, phase.kind, phase.digest) for phase in seen.devices[0].phases if phase.from_s > ZERO_S + 120]
    assert ("SHADOWING", "install", DIGESTS[3]) in first
    assert ("PROBATION", "rollback", DIGESTS[2]) in first
    assert not {"CONFIRMED", "SUPERSEDED", "CANCELED"} & {state for state, _, _ in first}
    shadow = next(phase for phase in seen.devices[0].phases if phase.state == "SHADOWING")
    assert shadow == Phase("SHADOWING", "install", DIGESTS[3], ZERO_S + 128, ZERO_S + 139)
    assert all(phase.digest != DIGESTS[3] for device in seen.devices[1:] for phase in device.phases)


def test_versions_are_named_by_what_was_built_from_them(seen: Facts) -> None:
    assert seen.versions == {DIGESTS[1]: "v1", DIGESTS[2]: "v2", DIGESTS[3]: "v3"}
    assert seen.releases["digits_line-3"] == "v3"


def event(name: str, subject: str, code: str) -> EventView:
    return EventView(seq=1, utc=utc(0), event=name, subject=subject, actor="x", data={"code": code}, hash="0" * 64)


@pytest.mark.parametrize(
    ("name", "subject", "code", "device"),
    [
        ("device_event", DEVICES[0], "ACK_SIGNATURE", DEVICES[0]),
        ("release_failed", "digits_line-3", "SIGNER_PROVENANCE", ""),
        ("execution_moved", "x/1", "BUNDLE_GOLDEN", ""),
    ],
)
def test_a_code_that_says_that_somebody_lies_or_that_it_never_works_is_a_refusal(name: str, subject: str, code: str, device: str) -> None:
    assert list(campaigns.refusals([event(name, subject, code)])) == [Mark(ZERO_S, "refused", code, device, meaning=CODES[code].meaning)]


@pytest.mark.parametrize(
    ("name", "code"), [("wave_moved", "CAMPAIGN_GATE"), ("device_event", "TUF_UNREACHABLE"), ("device_event", ""), ("x", "NO_SUCH_CODE")]
)
def test_a_verdict_on_a_wave_and_what_is_tried_again_are_no_refusals(name: str, code: str) -> None:
    assert list(campaigns.refusals([event(name, "s", code)])) == []


def test_kills_are_those_of_agents_and_of_their_children(seen: Facts) -> None:
    kills = [(mark.text, mark.device) for mark in seen.marks if mark.kind == "killed"]
    assert kills == [
        ("worker of agent-1 killed", DEVICES[0]), ("pipeline of agent-1 killed", DEVICES[0]), ("agent-2 killed", DEVICES[1])
    ]  # fmt: skip


def test_a_worker_that_was_not_killed_died_by_itself() -> None:
    line = {"utc": utc(1), "level": "error", "event": "worker_died", "returncode": -11}
    assert [mark.kind for mark in faults.deaths("agent-1", [line, {**line, "level": "info"}], "d")] == ["fault"]


def test_a_program_is_away_from_the_first_word_of_trouble_until_it_is_ready(seen: Facts) -> None:
    assert seen.away[0] == Away("control plane", ZERO_S + 63, ZERO_S + 66, killed=True)
    assert seen.away[0].words == "control plane killed, back in 3.0 s"
    assert Away("broker", ZERO_S + 228, ZERO_S + 238) in seen.away
    assert len(seen.away) == 5
    assert "agent-2" not in {one.program for one in seen.away}


def test_a_program_that_has_not_come_back_is_away_until_now() -> None:
    record = [{"utc": utc(5), "name": "broker", "what": "stopping", "detail": ""}]
    assert list(faults.away(record, ["broker"], ZERO_S + 9)) == [Away("broker", ZERO_S + 5, ZERO_S + 9)]


def test_what_repeats_itself_at_once_is_one_mark_that_counts() -> None:
    marks = [Mark(float(at), "refused", "ACK_SIGNATURE", "d") for at in (1, 2, 3, 9)]
    assert [(mark.at_s, mark.times) for mark in faults.merged([*marks, replace(marks[0], device="e")])] == [(1, 3), (1, 1), (9, 1)]


def test_a_log_is_read_around_what_is_not_a_line_of_it() -> None:
    text = '{"event": "agent_ready", "device_id": "dev-x"}\nTraceback (most recent call last):\n["list"]\n{"event": "cu'
    assert faults.lines(text) == [{"event": "agent_ready", "device_id": "dev-x"}]
    assert faults.device_of(faults.lines(text)) == "dev-x"


def test_devices_are_named_as_the_supervisor_names_them(seen: Facts) -> None:
    assert [(device.name, device.id) for device in seen.devices] == list(zip(("agent-1", "agent-2", "agent-3"), DEVICES, strict=True))
    nameless = facts(replace(recorded(), logs={}))
    assert [device.name for device in nameless.devices] == [device[:9] for device in DEVICES]


def test_rows_that_went_to_quarantine_are_a_refusal_and_are_counted(seen: Facts) -> None:
    assert [(mark.text, mark.times) for mark in seen.marks if mark.text.startswith("INGEST")] == [("INGEST_SIGNATURE", 40)]
    assert seen.rows.quarantined == 40


def test_the_last_minute_alone_keeps_totals_total(seen: Facts) -> None:
    last = facts(recorded(), last_s=60)
    assert last.ended_s == seen.ended_s
    assert last.ended_s - last.began_s == pytest.approx(60)
    assert last.campaigns == ()
    assert {one.program for one in last.away} == {"broker", "control plane"}
    assert sum(rows for _, rows in last.rows.committed) == sum(rows for _, rows in seen.rows.committed)


def test_a_site_in_which_nothing_has_happened_yet_has_facts_too() -> None:
    empty: dict[str, list[Any]] = {name: [] for name in ("answered", "accepted", "committed", "quarantine", "gaps")}
    nothing = facts(replace(recorded(), events=[], campaigns=[], rates={"bin_s": 1, **empty}, record=[], logs={}))
    assert (nothing.devices, nothing.campaigns, nothing.marks) == ((), (), ())
