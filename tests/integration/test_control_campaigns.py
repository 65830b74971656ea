"""Campaigns on the real process, driven by scripted devices: waves, a kill in the middle, a roll back, an abort, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.operator import CampaignView, EventView
from contracts.states import State
from control_plane.store.events import first_broken
from tests.integration.control_process import Answer, ControlProcess, ScriptedDevice, check_refused, running_control
from tests.simulators.bundle_bytes import make_bundle

control = running_control


@pytest.fixture
def device(control: ControlProcess, tmp_path: Path) -> ScriptedDevice:
    return ScriptedDevice.enrol(control, tmp_path)


def campaign(control: ControlProcess, release: str, waves: list[dict[str, Any]], **more: Any) -> CampaignView:
    answer = control.operators("POST", "/v1/campaigns", {"name": "roll", "release": release, "waves": waves, **more})
    assert answer.status == 201, answer.body
    return CampaignView.model_validate_json(answer.body)


def view(control: ControlProcess, campaign_id: str) -> CampaignView:
    return CampaignView.model_validate_json(control.operators("GET", f"/v1/campaigns/{campaign_id}").body)


LATENCY = {"metric": "latency_p95_us", "limit": 20_000, "min_samples": 100}
AGREEMENT = {"metric": "agreement", "limit": 0.1, "min_samples": 10}


def test_two_releases_two_waves_a_restart_and_a_roll_back(tmp_path: Path) -> None:
    control = ControlProcess(tmp_path).start()
    fleet = sorted((ScriptedDevice.enrol(control, tmp_path) for _ in range(3)), key=lambda one: one.id)
    digests = [control.sign(make_bundle(number), f"tiny-{number}") for number in (1, 2, 3)]
    _first_model_everywhere(control, fleet, digests[0])
    _second_in_two_waves_through_a_kill(control, fleet, digests, tmp_path)
    stopped = _third_is_stopped_and_taken_back(control, fleet, digests)

    log = [EventView.model_validate(line) for line in control.events()]
    assert first_broken(log) is None
    edited = [line.model_copy(update={"actor": "nobody"}) if line.seq == 5 else line for line in log]
    assert first_broken(edited) == 5
    folded = {line.subject: line.data["state"] for line in log if line.event == "execution_moved" and line.subject.startswith(stopped)}
    shown = {one.id: one.state.value for wave in view(control, stopped).waves for one in wave.executions}
    assert folded == shown, "what is shown is the fold of the log"
    assert len(shown) == 4, "two installs and two roll backs"
    assert control.stop() == 0


def _confirmed(control: ControlProcess, fleet: list[ScriptedDevice]) -> list[str]:
    return [control.operators("GET", f"/v1/devices/{one.id}").json["confirmed_digest"] for one in fleet]


def _first_model_everywhere(control: ControlProcess, fleet: list[ScriptedDevice], digest: str) -> None:
    """Gates on an incumbent do not apply, absolute ones do."""
    begun = campaign(control, "tiny-1", [{"gates": [LATENCY, AGREEMENT]}], shadow_pairs=10)
    for one in fleet:
        assert one.install()["activate"] is True
    control.event("campaign_succeeded", release="tiny-1")
    assert {gate.metric: gate.verdict for gate in view(control, begun.id).waves[0].gates} == {
        "install_success": "passed", "latency_p95_us": "passed", "agreement": "not_applicable",
    }  # fmt: skip
    assert _confirmed(control, fleet) == [digest] * 3


def _second_in_two_waves_through_a_kill(control: ControlProcess, fleet: list[ScriptedDevice], digests: list[str], folder: Path) -> None:
    """The control plane dies in the middle of the first wave, and goes on where it was."""
    first, second, _ = digests
    campaign(control, "tiny-2", [{"size": 1, "gates": [LATENCY]}, {"gates": [LATENCY]}])
    etags = [one.poll().headers["etag"] for one in fleet]
    assert control.kill() == -9
    control.start()
    for number, one in enumerate(fleet):
        one.http = control.devices((folder / f"{one.id}.crt", folder / f"{one.id}.key"))
        assert one.poll(etags[number]).status == 304, "the same row gives the same bytes"
    assert [one.assignment()["components"][0]["sha256"] for one in fleet] == [second, first, first]
    fleet[0].install()
    control.event("wave_moved", wave=2, state="OPEN")
    for one in fleet[1:]:
        one.install()
    control.event("campaign_succeeded", release="tiny-2")


def _third_is_stopped_and_taken_back(control: ControlProcess, fleet: list[ScriptedDevice], digests: list[str]) -> str:
    """A gate fails: who was exposed goes back to what he had, the next wave is never offered anything. The campaign's id."""
    _, second, third = digests
    begun = campaign(control, "tiny-3", [{"size": 2, "gates": [LATENCY]}, {}])
    fleet[0].install()
    fleet[1].install(us=50_000)
    control.event("campaign_moved", state="ROLLING_BACK")
    back = [one.assignment() for one in fleet[:2]]
    assert {(one["kind"], one["components"][0]["sha256"]) for one in back} == {("rollback", second)}
    assert fleet[2].assignment()["components"][0]["sha256"] == second
    for one in fleet[:2]:
        one.install()
    control.event("campaign_rolled_back", release="tiny-3")
    assert [wave.state for wave in view(control, begun.id).waves] == ["FAILED", "PENDING"]
    assert third not in _confirmed(control, fleet)
    return begun.id


def test_late_and_unproven_reports_change_nothing(control: ControlProcess, device: ScriptedDevice) -> None:
    digest = control.sign(make_bundle(11), "tiny-11")
    begun = campaign(control, "tiny-11", [{"devices": [device.id]}])
    order = device.assignment()
    execution, fence = order["execution"], order["fence"]
    liar = {"kind": "transition", "state": "CONFIRMED", "bundle_digest": "f" * 64}
    assert device.report(execution, liar, fence=fence).json == {"accepted": {execution: 1}}
    assert device.report(execution, {"kind": "transition", "state": "CONFIRMED", "bundle_digest": digest}, fence=fence - 1).status == 200
    assert view(control, begun.id).waves[0].executions[0].state is State.OFFERED
    device.install()
    control.event("campaign_succeeded", release="tiny-11")
    late = {"kind": "transition", "state": "DOWNLOADING"}
    assert device.report(execution, late, fence=fence).status == 200
    seen = view(control, begun.id)
    assert (seen.state, seen.waves[0].executions[0].state) == ("SUCCEEDED", State.CONFIRMED)


def test_abort_takes_the_order_back(control: ControlProcess, device: ScriptedDevice) -> None:
    control.sign(make_bundle(12), "tiny-12")
    begun = campaign(control, "tiny-12", [{"devices": [device.id]}])
    execution = device.assignment()["execution"]
    assert control.operators("POST", f"/v1/campaigns/{begun.id}/abort").json["state"] == "ABORTED"
    order = device.assignment()
    assert (order["kind"], order["execution"]) == ("none", "")
    canceled = {"kind": "transition", "state": "CANCELED"}
    fence = view(control, begun.id).waves[0].executions[0].fence
    device.report(execution, canceled, fence=fence)
    assert view(control, begun.id).waves[0].executions[0].state is State.CANCELED
    check_refused(control.operators("POST", f"/v1/campaigns/{begun.id}/abort"), 409, "CAMPAIGN_STATE")


def test_a_pause_is_taken_back_by_a_resume(control: ControlProcess, device: ScriptedDevice) -> None:
    """By the API: the order is taken from the device and given again; each act names who did it, and may name what he saw."""
    digest = control.sign(make_bundle(17), "tiny-17")
    begun = campaign(control, "tiny-17", [{"devices": [device.id]}])
    here = f"/v1/campaigns/{begun.id}"
    seen = control.operators("GET", here).headers["etag"]
    first = device.assignment()
    paused = control.operators("POST", f"{here}/pause", If_Match=seen)
    assert (paused.json["state"], paused.json["waits_for"]) == ("PAUSED", "a person: pause by operator:local")
    assert paused.headers["etag"] == f'"{paused.json["revision"]}"'
    assert device.assignment()["kind"] == "none"
    check_refused(control.operators("POST", f"{here}/resume", If_Match=seen), 412, "API_PRECONDITION")
    check_refused(control.operators("POST", f"{here}/resume", If_Match="nonsense"), 422, "API_INVALID")
    check_refused(control.operators("POST", f"{here}/pause"), 409, "CAMPAIGN_STATE")
    device.report(first["execution"], {"kind": "transition", "state": "CANCELED"}, fence=first["fence"])
    assert control.operators("POST", f"{here}/resume", If_Match="*").json["state"] == "RUNNING"
    again = device.install()
    assert (again["components"][0]["sha256"], again["fence"] > first["fence"]) == (digest, True)
    control.event("campaign_succeeded", release="tiny-17")
    moves = [line for line in control.events() if line["event"] == "campaign_moved" and line["subject"] == begun.id]
    assert [(line["data"]["state"], line["actor"]) for line in moves] == [
        ("PAUSED", "operator:local"), ("RUNNING", "operator:local"), ("SUCCEEDED", "system"),
    ]  # fmt: skip


def test_a_newer_campaign_replaces_an_older_one_that_has_not_begun(control: ControlProcess, device: ScriptedDevice) -> None:
    control.sign(make_bundle(13), "tiny-13")
    digest = control.sign(make_bundle(14), "tiny-14")
    older = campaign(control, "tiny-13", [{"devices": [device.id]}], on_failure="pause")
    campaign(control, "tiny-14", [{"devices": [device.id]}])
    assert device.assignment()["components"][0]["sha256"] == digest
    assert view(control, older.id).waves[0].executions[0].state is State.SUPERSEDED
    device.install()
    control.event("campaign_succeeded", release="tiny-14")


def test_campaigns_that_cannot_work_are_refused(control: ControlProcess, device: ScriptedDevice) -> None:
    control.sign(make_bundle(15), "tiny-15")
    control.sign(make_bundle(16, profile="arm64-cpu"), "tiny-16")

    def ask(release: str, *waves: dict[str, Any]) -> Answer:
        return control.operators("POST", "/v1/campaigns", {"name": "roll", "release": release, "waves": waves})

    mine = {"devices": [device.id]}
    check_refused(ask("tiny-99", mine), 409, "CAMPAIGN_NO_RELEASE")
    check_refused(ask("tiny-16", mine), 409, "CAMPAIGN_NO_RELEASE")
    check_refused(ask("tiny-15", mine, mine), 422, "CAMPAIGN_INVALID")
    check_refused(ask("tiny-15", {"devices": ["dev-" + "a" * 26]}), 422, "CAMPAIGN_INVALID")
    check_refused(ask("tiny-15", {}, {}), 422, "CAMPAIGN_WAVE_EMPTY")
    check_refused(ask("tiny-15"), 422, "API_INVALID")
    check_refused(control.operators("GET", "/v1/campaigns/none"), 404, "CAMPAIGN_UNKNOWN")
