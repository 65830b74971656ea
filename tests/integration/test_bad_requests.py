"""What people and devices may ask wrongly of a running control plane: a code and a remedy each, nothing of it stored, and it serves on."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import func, select

from control_plane.store.campaigns import CampaignRow
from control_plane.store.devices import DeviceRow, TokenRow
from control_plane.store.reports import ReportRow
from processing import latency
from tests.integration.control_process import REPO, ControlProcess, ScriptedDevice, check_refused, enrolment_request, running_control
from tests.simulators.bundle_bytes import make_bundle
from tests.unit.test_hostile_csr import CLAIMS, NAMES, pem, request

control = running_control
ENROL = "/enrol/v1/requests"


@pytest.fixture(scope="module")
def device(control: ControlProcess, tmp_path_factory: pytest.TempPathFactory) -> ScriptedDevice:
    return ScriptedDevice.enrol(control, tmp_path_factory.mktemp("device"), labels={"line": "1"})


def count(control: ControlProcess, row: Any) -> int:
    with control.database() as database, database.read() as session:
        return int(session.scalar(select(func.count()).select_from(row)) or 0)


# -- enrolment


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_a_certificate_has_the_registrys_name_whatever_was_asked_for(control: ControlProcess) -> None:
    before = count(control, DeviceRow)
    for what, name in NAMES.items():
        key = ec.generate_private_key(ec.SECP256R1())
        body = {**enrolment_request(control.token(), key), "csr_pem": pem(request((name,) if name else (), key))}
        answer = control.enrolment("POST", ENROL, body)
        if what in CLAIMS:
            check_refused(answer, 422, "ENROL_CSR_REFUSED")
            continue
        leaf = x509.load_pem_x509_certificate(answer.json["certificate_pem"].encode())
        assert leaf.subject.rfc4514_string() == f"CN={answer.json['device']}", what
    assert count(control, DeviceRow) - before == len(NAMES) - len(CLAIMS), "a refused one left no device"


def test_a_token_that_was_refused_is_not_spent_and_a_spent_one_stays_spent(control: ControlProcess) -> None:
    key, thief = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    token = control.token()
    rubbish = {**enrolment_request(token, key), "csr_pem": pem(b"\x30\x80")}
    check_refused(control.enrolment("POST", ENROL, rubbish), 422, "ENROL_CSR_REFUSED")
    assert control.enrolment("POST", ENROL, enrolment_request(token, key)).status == 201
    before = count(control, DeviceRow)
    check_refused(control.enrolment("POST", ENROL, enrolment_request(token, thief)), 403, "ENROL_TOKEN_SPENT")
    assert count(control, DeviceRow) == before


@pytest.mark.parametrize("valid_s", [0, -1, 10**12, "soon"])
def test_a_token_that_never_or_always_holds_is_not_made(control: ControlProcess, valid_s: Any) -> None:
    before = count(control, TokenRow)
    check_refused(control.operators("POST", "/v1/enrolment-tokens", {"valid_s": valid_s}), 422, "API_INVALID")
    assert count(control, TokenRow) == before


# -- reports

WINDOW = {
    "kind": "window", "duration_s": 1, "frames": 5, "accepted_rows": 5, "refused": 0, "not_finite": 0, "latency": latency.empty(),
}  # fmt: skip
EVENT = {"kind": "event", "event": "started"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"kind": "rumour"}, "REPORT_KIND"), ({"frames": -1}, "API_INVALID"), ({"latency": [-1, *latency.empty()[1:]]}, "API_INVALID"),
        ({"duration_s": math.nan}, "API_INVALID"), ({"temperature_c": math.inf}, "API_INVALID"), ({"frames": 10**30}, "API_INVALID"),
        ({"agreed": 5, "pairs": 4}, "API_INVALID"), ({"boot_id": "b" * 10_000}, "API_INVALID"),
        ({"execution": "c-1/dev-" + "z" * 26 + "/1"}, "REPORT_EXECUTION"), ({"execution": "../../etc"}, "REPORT_EXECUTION"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)  # fmt: skip
def test_a_malformed_report_is_refused_and_the_good_one_beside_it_too(
    control: ControlProcess, device: ScriptedDevice, changes: dict[str, Any], code: str
) -> None:
    before, numbers = count(control, ReportRow), dict(device.seq)
    answer = device.report("", EVENT, {**WINDOW, **changes}, fence=0)
    check_refused(answer, 403 if code == "REPORT_EXECUTION" else 422, code)
    assert count(control, ReportRow) == before
    device.seq = numbers


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b'{"device": ' + b"9" * 5000 + b"}", b"[]", b'"x"'],
    ids=["nothing", "cut", "null", "deep lists", "deep objects", "no text", "huge number", "list", "text"],
)
def test_a_body_that_is_no_report_is_refused(control: ControlProcess, device: ScriptedDevice, body: bytes) -> None:
    answer = device.http("POST", "/device/v1/reports", body, content_type="application/json")
    assert 400 <= answer.status < 500
    check_refused(answer, answer.status, "API_INVALID")


def test_numbers_that_are_missing_store_nothing_and_say_from_where_to_send_again(control: ControlProcess, device: ScriptedDevice) -> None:
    assert device.report("", EVENT, fence=0).status == 200
    known, before = device.seq[""], count(control, ReportRow)
    device.seq[""] = known + 5
    assert device.report("", EVENT, EVENT, fence=0).json == {"accepted": {"": known}}
    assert count(control, ReportRow) == before
    device.seq[""] = known


# -- campaigns


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ({"waves": [{}], "labels": {"line": "9"}}, "CAMPAIGN_NO_DEVICE", "no active device has line=9"),
        ({"waves": [{"size": 0}]}, "CAMPAIGN_WAVE_EMPTY", "wave 1 is of 0 devices"),
        ({"waves": [{}, {"size": -1}]}, "CAMPAIGN_WAVE_EMPTY", "wave 2 is of -1 devices"),
        ({"waves": [{}, {}]}, "CAMPAIGN_WAVE_EMPTY", "no device is left for wave 2"),
        ({"waves": []}, "API_INVALID", "waves"),
        ({"waves": [{"devices": ["dev-" + "z" * 26]}]}, "CAMPAIGN_INVALID", "dev-zzz"),
        ({"waves": [{"soak_s": math.inf}]}, "API_INVALID", "soak_s"),
        ({"waves": [{"gates": [{"metric": "agreement", "limit": math.nan}]}]}, "API_INVALID", "limit"),
    ],
)
def test_a_campaign_that_reaches_nobody_is_not_made(
    control: ControlProcess, device: ScriptedDevice, tmp_path: Path, asked: dict[str, Any], code: str, said: str
) -> None:
    labelled = {"labels": {"line": "1"}, **asked}
    before, seq = count(control, CampaignRow), control.events()[-1]["seq"]
    answer = control.operators("POST", "/v1/campaigns", {"name": "roll", "release": "tiny-1", **labelled})
    check_refused(answer, 422, code)
    assert said in answer.json["detail"]
    assert (count(control, CampaignRow), control.events()[-1]["seq"]) == (before, seq), "no campaign, and no event of one"
    assert device.assignment()["kind"] == "none"


def test_the_command_line_says_the_same(control: ControlProcess, device: ScriptedDevice, tmp_path: Path) -> None:
    control.sign(make_bundle(1), "tiny-1")
    (tmp_path / "token").write_text((control.site.folder / "control/keys/operator.token").read_text())

    def skerry(*words: str) -> subprocess.CompletedProcess[str]:
        site = ["--url", f"http://127.0.0.1:{control.ports['operators']}", "--token-file", str(tmp_path / "token")]
        line = [sys.executable, "-m", "control_plane.cli", "campaign", "create", "roll", "--release", "tiny-1", *words, *site]
        return subprocess.run(line, cwd=REPO, check=False, capture_output=True, text=True, timeout=60)

    nobody = skerry("--wave", "all", "--label", "line=9")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr.startswith("skerry: CAMPAIGN_NO_DEVICE: roll: no active device has line=9\n  remedy: skerry device list")
    nothing = skerry("--wave", "0", "--json")
    assert (nothing.returncode, json.loads(nothing.stderr)["code"]) == (1, "CAMPAIGN_WAVE_EMPTY")
    assert count(control, CampaignRow) == 0


# -- starting


def started(control: ControlProcess, folder: Path, state: Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    """One more control plane with the same site; it must not come up."""
    lines = [line for line in control.config.read_text().splitlines() if line.split(" ")[0] not in changes]
    config = folder / "other.toml"
    config.write_text("\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in changes.items())]))
    command = [sys.executable, "-m", "control_plane", "--config", str(config), "--state-dir", str(state), "--run-dir", str(folder / "run")]
    return subprocess.run(command, cwd=REPO, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("listener", ["operators", "devices", "enrolment"])
def test_a_busy_port_names_the_listener_and_who_has_it(control: ControlProcess, tmp_path: Path, listener: str) -> None:
    port = control.ports[listener]
    done = started(control, tmp_path, tmp_path / "state", **{f"{listener}_port": port})
    assert done.returncode == 1
    said = done.stderr.splitlines()[-3:]
    assert said[0].startswith(f"skerry-control: SETUP_PORT_BUSY: {listener}_port 127.0.0.1:{port}: held by ")
    assert f"-m control_plane --config {control.config}" in said[0]
    assert said[0].endswith(f"(pid {control.pid})")
    assert said[1].startswith("  remedy: stop the program named")
    assert said[2] == "  see: docs/reference/errors.md#setup_port_busy"


def test_an_address_that_is_not_this_machines_is_no_busy_port(control: ControlProcess, tmp_path: Path) -> None:
    done = started(control, tmp_path, tmp_path / "state", devices_host="192.0.2.1")
    assert done.returncode == 1
    assert "CONFIG_INVALID: devices_host, devices_port: cannot listen on 192.0.2.1:0" in done.stderr


def test_it_still_serves(control: ControlProcess, device: ScriptedDevice) -> None:
    assert device.poll().status == 200
    assert control.operators("GET", "/v1/status").status == 200
