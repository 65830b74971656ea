"""What is refused leaves a line in the operators' log, with its code and with who tried; a flood of it leaves few."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.canonical import CONTEXT_APPROVAL, canonical_json, sha256_hex
from contracts.release import Release
from control_plane.store.releases import ReleaseRow
from signatures.ed25519 import SigningKey
from tests.integration.control_process import ControlProcess, ScriptedDevice, check_refused, running_control

control = running_control
RELEASE = Release(name="tiny", number=1, manifests={"x86-cpu-avx2": "1" * 64})


@pytest.fixture(name="device")
def enrolled(control: ControlProcess, tmp_path: Path) -> ScriptedDevice:
    return ScriptedDevice.enrol(control, tmp_path)


def lines(control: ControlProcess, event: str, subject: str) -> list[dict[str, Any]]:
    return [line for line in control.events() if (line["event"], line["subject"]) == (event, subject)]


def test_a_report_for_another_devices_execution_is_told_once_however_often_it_is_tried(
    control: ControlProcess, device: ScriptedDevice, tmp_path: Path
) -> None:
    other = ScriptedDevice.enrol(control, tmp_path)
    for _ in range(5):
        lie = device.report(f"c-1/{other.id}/1", {"kind": "transition", "state": "CONFIRMED"}, fence=1)
        check_refused(lie, 403, "REPORT_EXECUTION")
    (line,) = lines(control, "report_refused", device.id)
    assert (line["actor"], line["data"]["code"], line["data"]["count"]) == (f"device:{device.id}", "REPORT_EXECUTION", 1)
    assert other.id in line["data"]["detail"]


def test_an_approval_by_an_unknown_key_is_told(control: ControlProcess) -> None:
    with control.database() as database, database.write() as session:
        session.add(
            ReleaseRow(
                id=RELEASE.id, name=RELEASE.name, number=RELEASE.number, state="BUILT", model_version="model:tiny/1",
                manifests=RELEASE.manifests, created_utc=datetime.now(timezone.utc),
            )
        )  # fmt: skip
    stranger, message = SigningKey(Ed25519PrivateKey.generate()), canonical_json(RELEASE.model_dump(mode="json"))
    approval = {
        "release_sha256": sha256_hex(message), "key_id": stranger.key_id, "signature": stranger.sign(CONTEXT_APPROVAL, message).hex(),
    }  # fmt: skip
    check_refused(control.operators("POST", f"/v1/releases/{RELEASE.id}/approval", approval), 409, "SIGNER_APPROVAL")
    (line,) = lines(control, "approval_refused", RELEASE.id)
    assert (line["actor"], line["data"]["code"]) == ("operator:local", "SIGNER_APPROVAL")
    assert control.operators("GET", f"/v1/releases/{RELEASE.id}").json["state"] == "BUILT"


def test_services_tell_what_they_refused_and_nobody_else_does(control: ControlProcess, device: ScriptedDevice) -> None:
    told = {"alarms": [{"code": "INGEST_SIGNATURE", "device": device.id, "detail": "forged", "count": 3}]}
    assert control.service("ingest")("POST", "/internal/v1/alarms", told).status == 204
    (line,) = lines(control, "service_alarm", device.id)
    assert line["actor"] == "service:svc-ingest-1"
    assert line["data"] == {"code": "INGEST_SIGNATURE", "detail": "forged", "count": 3}
    check_refused(device.http("POST", "/internal/v1/alarms", told), 403, "API_FORBIDDEN")


@pytest.mark.parametrize(
    "alarm", [{"code": "NO_SUCH_CODE"}, {"code": "INGEST_SIGNATURE", "device": "x"}, {"code": "INGEST_SIGNATURE", "count": 0}]
)
def test_an_alarm_that_makes_no_sense_is_refused(control: ControlProcess, alarm: dict[str, Any]) -> None:
    check_refused(control.service("ingest")("POST", "/internal/v1/alarms", {"alarms": [alarm]}), 422, "API_INVALID")
