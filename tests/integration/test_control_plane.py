"""The real process: enrolment, polls, reports, campaigns; and every refusal with its code."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from contracts.assignment import Assignment
from contracts.enrolment import EnrolmentAnswer
from contracts.ids import DEVICE_ID, device_urn, service_urn
from tests.integration.control_process import (
    REPO,
    Answer,
    ControlProcess,
    Http,
    ScriptedDevice,
    batch_key,
    check_refused,
    csr,
    enrolment_request,
    running_control,
    store,
)  # fmt: skip

control = running_control


@pytest.fixture
def device(control: ControlProcess, tmp_path: Path) -> ScriptedDevice:
    return ScriptedDevice.enrol(control, tmp_path)


# -- enrolment


def test_enrolment_gives_the_registrys_name_and_the_pins(control: ControlProcess) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    answer = control.enrolment("POST", "/enrol/v1/requests", enrolment_request(control.token(labels={"line": "7"}), key))
    granted = EnrolmentAnswer.model_validate_json(answer.body)
    leaf = x509.load_pem_x509_certificate(granted.certificate_pem.encode())
    assert answer.status == 201
    assert DEVICE_ID.fullmatch(granted.device)
    assert leaf.subject.rfc4514_string() == f"CN={granted.device}"
    alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.UniformResourceIdentifier) == [device_urn(granted.device)]
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.not_valid_after_utc - datetime.now(timezone.utc) < timedelta(days=7)
    assert Metadata[Root].from_bytes(granted.pins.director_root_bytes).signed.version == 1
    assert granted.pins.model_signing_keys
    seen = control.operators("GET", f"/v1/devices/{granted.device}").json
    assert (seen["state"], seen["labels"]) == ("ACTIVE", {"line": "7"})


def test_a_lost_answer_can_be_asked_for_again_by_the_same_key_only(control: ControlProcess) -> None:
    token, key = control.token(), ec.generate_private_key(ec.SECP256R1())
    first = control.enrolment("POST", "/enrol/v1/requests", enrolment_request(token, key))
    again = control.enrolment("POST", "/enrol/v1/requests", enrolment_request(token, key))
    assert first.json == again.json
    thief = enrolment_request(token, ec.generate_private_key(ec.SECP256R1()))
    check_refused(control.enrolment("POST", "/enrol/v1/requests", thief), 403, "ENROL_TOKEN_SPENT")


def test_tokens_are_refused_when_unknown_expired_or_bound_elsewhere(control: ControlProcess) -> None:
    key = ec.generate_private_key(ec.SECP256R1())

    def ask(token: str, **inventory: str) -> Answer:
        return control.enrolment("POST", "/enrol/v1/requests", enrolment_request(token, key, **inventory))

    check_refused(ask("skt1." + "x" * 43 + "." + "0" * 64), 403, "ENROL_TOKEN_UNKNOWN")
    check_refused(ask("nonsense"), 403, "ENROL_TOKEN_UNKNOWN")
    bound = control.token(serial="SN-1")
    check_refused(ask(bound, serial="SN-2"), 403, "ENROL_TOKEN_BINDING")
    expired = control.token(valid_s=1)
    with control.database() as database, database.write() as session:
        from control_plane.store.devices import TokenRow

        row = session.get_one(TokenRow, hashlib.sha256(expired.split(".")[1].encode()).hexdigest())
        row.expires_utc = datetime.now(timezone.utc) - timedelta(seconds=1)
    check_refused(ask(expired), 403, "ENROL_TOKEN_EXPIRED")
    assert ask(bound, serial="SN-1").status == 201


def test_certificate_requests_are_refused(control: ControlProcess) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    good = enrolment_request(control.token(), key)
    forged = csr(key).splitlines()
    middle = len(forged) - 2
    forged[middle] = ("A" if forged[middle][4] != "A" else "B") * 4 + forged[middle][4:]
    bad: list[dict[str, Any]] = [
        {"csr_pem": csr(rsa.generate_private_key(65537, 2048))},
        {"csr_pem": csr(ec.generate_private_key(ec.SECP384R1()))},
        {"csr_pem": csr(key, "dev-" + "a" * 26)},  # claims to be another device
        {"csr_pem": csr(key, "svc-control-1")},
        {"csr_pem": "\n".join(forged)},
        {"csr_pem": "nonsense"},
        {"csr_pem": "x" * 20_000},
        {"batch_key": batch_key(other)},
    ]
    for changed in bad:
        check_refused(control.enrolment("POST", "/enrol/v1/requests", {**good, **changed}), 422, "ENROL_CSR_REFUSED")
    assert control.enrolment("POST", "/enrol/v1/requests", good).status == 201, "no refusal spent the token"


def test_without_preregistration_a_person_approves(control: ControlProcess, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    answer = control.enrolment("POST", "/enrol/v1/requests", enrolment_request(control.token(preregistered=False), key))
    assert answer.status == 202
    again = f"/enrol/v1/requests/{answer.json['request_id']}"
    assert control.enrolment("GET", again).status == 202
    pending = next(one for one in control.operators("GET", "/v1/devices").json if one["state"] == "PENDING")
    assert control.operators("POST", f"/v1/devices/{pending['id']}/approve").json["state"] == "ACTIVE"
    check_refused(control.operators("POST", f"/v1/devices/{pending['id']}/approve"), 409, "API_CONFLICT")
    granted = control.enrolment("GET", again)
    device = ScriptedDevice.with_certificate(control, tmp_path, granted.json["device"], granted.json["certificate_pem"], key)
    assert device.poll().status == 200
    check_refused(control.enrolment("GET", "/enrol/v1/requests/nothing"), 404, "API_NOT_FOUND")


# -- polls


def test_poll_is_304_until_something_changes_and_every_file_verifies(control: ControlProcess, device: ScriptedDevice) -> None:
    first = device.poll()
    etag = first.headers["etag"]
    assert first.status == 200
    assert etag == f'"{hashlib.sha256(first.body).hexdigest()}"'
    unchanged = device.poll(etag)
    assert (unchanged.status, unchanged.body, unchanged.headers["etag"]) == (304, b"", etag)
    assert control.operators("GET", f"/v1/devices/{device.id}").json["last_seen_utc"]

    def file(name: str) -> bytes:
        return device.http("GET", f"/device/v1/director/{name}").body

    root = Metadata[Root].from_bytes(file("1.root.json"))
    timestamp = Metadata[Timestamp].from_bytes(first.body)
    snapshot = Metadata[Snapshot].from_bytes(file("snapshot.json"))
    targets = Metadata[Targets].from_bytes(file("targets.json"))
    for name, role in (("timestamp", timestamp), ("snapshot", snapshot), ("targets", targets)):
        root.signed.verify_delegate(name, role.signed_bytes, role.signatures)
    content = file("assignment.json")
    targets.signed.targets["assignment.json"].verify_length_and_hashes(content)
    assignment = Assignment.model_validate_json(content)
    assert (assignment.device, assignment.kind, assignment.poll_interval_s) == (device.id, "none", 7)
    assert assignment.ack_keys
    for absent in ("2.root.json", "x.root.json", "nothing.json", "..%2fkeys%2fdirector.pem"):
        check_refused(device.http("GET", f"/device/v1/director/{absent}"), 404, "API_NOT_FOUND")


def test_image_metadata_and_blobs_with_range(control: ControlProcess, device: ScriptedDevice) -> None:
    root = device.http("GET", "/device/v1/image/1.root.json")
    assert root.body == (control.site.image / "1.root.json").read_bytes()
    assert device.http("GET", "/device/v1/image/1.root.json", If_None_Match=root.headers["etag"]).status == 304
    for escape in ("..%2f..%2fcontrol%2fkeys%2fdirector.pem", "%2fetc%2fpasswd", "../../control/keys/director.pem", "nothing.json"):
        check_refused(device.http("GET", f"/device/v1/image/{escape}"), 404, "API_NOT_FOUND")
    content = os.urandom(300_000)
    digest = hashlib.sha256(content).hexdigest()
    assert control.operators("PUT", f"/v1/blobs/{digest}", content).status == 201
    assert control.operators("PUT", f"/v1/blobs/{digest}", content).status == 200
    check_refused(control.operators("PUT", f"/v1/blobs/{'0' * 64}", content), 422, "API_DIGEST")
    path = f"/device/v1/blobs/{digest}"
    assert device.http("GET", path).body == content
    part = device.http("GET", path, Range="bytes=299000-")
    assert (part.status, part.body, part.headers["content-range"]) == (206, content[299_000:], "bytes 299000-299999/300000")
    assert device.http("GET", path, Range="bytes=10-19").body == content[10:20]
    assert device.http("GET", path, Range="bytes=300000-").status == 416
    assert device.http("HEAD", path).headers["content-length"] == "300000"
    check_refused(device.http("GET", f"/device/v1/blobs/{'1' * 64}"), 404, "API_NOT_FOUND")
    check_refused(device.http("GET", "/device/v1/blobs/..%2fskerry.db"), 404, "API_NOT_FOUND")


# -- who may call what


def test_who_asked_for_which_content_is_in_the_log(control: ControlProcess, device: ScriptedDevice) -> None:
    """Of devices, for bundles and members, answered or not; what every device asks for is left out, and so is the operators' reading."""
    content = os.urandom(100)
    member, manifest, absent = hashlib.sha256(content).hexdigest(), "2" * 64, "3" * 64
    assert control.operators("PUT", f"/v1/blobs/{member}", content).status == 201
    assert control.operators("GET", f"/v1/blobs/{member}").status == 200
    assert device.http("GET", f"/device/v1/blobs/{member}").status == 200
    assert device.http("GET", f"/device/v1/blobs/{absent}").status == 404
    assert device.http("GET", f"/device/v1/image/targets/bundles/x86-cpu-avx2/{manifest}.small-1.json").status == 404
    assert device.http("GET", "/device/v1/image/1.root.json").status == 200
    lines = [json.loads(line) for line in (control.folder / "control.log").read_text().splitlines()]
    asked = [line["sha256"] for line in lines if line["event"] == "content_asked" and line["device_id"] == device.id]
    assert asked == [member, absent, manifest]


def test_no_token_no_operator(control: ControlProcess) -> None:
    stranger = Http(f"http://127.0.0.1:{control.ports['operators']}")
    for path in ("/v1/status", "/v1/devices", "/v1/events", f"/v1/blobs/{'0' * 64}"):
        check_refused(stranger("GET", path), 401, "API_UNAUTHENTICATED")
    check_refused(stranger("GET", "/v1/status", Authorization="Bearer wrong"), 401, "API_UNAUTHENTICATED")
    assert stranger("GET", "/openapi.json").status == 200
    stranger.close()


def test_devices_and_services_keep_to_their_own_routes(control: ControlProcess, device: ScriptedDevice) -> None:
    check_refused(device.http("GET", "/internal/v1/devices"), 403, "API_FORBIDDEN")
    check_refused(device.http("GET", "/internal/v1/builds/next"), 403, "API_FORBIDDEN")
    ingest, build = control.service("ingest"), control.service("build")
    check_refused(build("GET", "/internal/v1/devices"), 403, "API_FORBIDDEN")
    for path in ("/device/v1/director/timestamp.json", "/device/v1/image/1.root.json", f"/device/v1/blobs/{'0' * 64}"):
        check_refused(ingest("GET", path), 403, "API_FORBIDDEN")
    feed = ingest("GET", "/internal/v1/devices").json
    assert device.id in {one["id"] for one in feed["devices"]}
    assert ingest("GET", f"/internal/v1/devices?since={feed['revision']}").json == {"revision": feed["revision"], "devices": []}


def test_no_certificate_or_a_strangers_one_meets_no_answer(control: ControlProcess, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dev-" + "a" * 26)])
    own = _leaf(name, name, key, key, device_urn("dev-" + "a" * 26))
    for identity in (None, store(tmp_path, "stranger", own, key)):
        with pytest.raises(urllib3.exceptions.HTTPError):
            control.devices(identity)("GET", "/device/v1/director/timestamp.json")


def test_the_device_ca_cannot_make_a_service(control: ControlProcess, tmp_path: Path) -> None:
    """Who holds the device CA's key (the control plane) still makes no `svc-` that is believed."""
    keys = control.site.folder / "control/keys"
    issuer = x509.load_pem_x509_certificate((keys / "device-ca.crt").read_bytes())
    issuer_key, key = load_pem_private_key((keys / "device-ca.key").read_bytes(), None), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "svc-ingest-1")])
    leaf = _leaf(name, issuer.subject, key, issuer_key, service_urn("ingest"))
    chain = leaf + issuer.public_bytes(Encoding.PEM).decode()
    forged = control.devices(store(tmp_path, "forged", chain, key))
    check_refused(forged("GET", "/internal/v1/devices"), 401, "API_UNAUTHENTICATED")


def _leaf(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: Any, urn: str) -> str:
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now - timedelta(minutes=1)).not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(urn)]), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_a_revoked_device_is_refused_on_the_connection_it_has(control: ControlProcess, device: ScriptedDevice) -> None:
    etag = device.poll().headers["etag"]
    since = control.service("ingest")("GET", "/internal/v1/devices").json["revision"]
    assert control.operators("POST", f"/v1/devices/{device.id}/revoke").json["state"] == "DECOMMISSIONED"
    check_refused(device.poll(etag), 403, "API_FORBIDDEN")
    check_refused(device.report("", fence=0), 403, "API_FORBIDDEN")
    changed = control.service("ingest")("GET", f"/internal/v1/devices?since={since}").json["devices"]
    assert [(one["id"], one["state"]) for one in changed] == [(device.id, "DECOMMISSIONED")]
    check_refused(control.operators("POST", f"/v1/devices/{device.id}/revoke"), 409, "API_CONFLICT")


def test_renewal_overlaps_and_gives_a_second_batch_key(control: ControlProcess, device: ScriptedDevice, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    answer = device.http("POST", "/device/v1/renewals", {"csr_pem": csr(key), "batch_key": batch_key(key)})
    assert (answer.status, answer.json["device"]) == (201, device.id)
    renewed = ScriptedDevice.with_certificate(control, tmp_path, device.id, answer.json["certificate_pem"], key)
    assert (renewed.poll().status, device.poll().status) == (200, 200)
    feed = control.service("ingest")("GET", "/internal/v1/devices").json["devices"]
    assert len(next(one for one in feed if one["id"] == device.id)["batch_keys"]) == 2
    stolen = {"csr_pem": csr(key), "batch_key": batch_key(ec.generate_private_key(ec.SECP256R1()))}
    check_refused(device.http("POST", "/device/v1/renewals", stolen), 422, "ENROL_CSR_REFUSED")
    foreign = {"csr_pem": csr(key, "dev-" + "b" * 26), "batch_key": batch_key(key)}
    check_refused(device.http("POST", "/device/v1/renewals", foreign), 422, "ENROL_CSR_REFUSED")


# -- reports


def test_reports_are_taken_once_and_in_order(device: ScriptedDevice) -> None:
    event = {"kind": "event", "event": "started"}
    assert device.report("", event, event, fence=0).json == {"accepted": {"": 2}}
    device.seq[""] = 0
    assert device.report("", event, event, event, fence=0).json == {"accepted": {"": 3}}, "the first two are known"
    device.seq[""] = 5
    assert device.report("", event, fence=0).json == {"accepted": {"": 3}}, "4 and 5 are missing"


def test_reports_of_unknown_kind_or_for_another_device_are_refused(control: ControlProcess, device: ScriptedDevice, tmp_path: Path) -> None:
    check_refused(device.report("", {"kind": "rumour"}, fence=0), 422, "REPORT_KIND")
    check_refused(device.report("", {"kind": "event"}, fence=0), 422, "API_INVALID")
    other = ScriptedDevice.enrol(control, tmp_path)
    check_refused(device.report(f"c-1/{other.id}/1", {"kind": "event", "event": "x"}, fence=1), 403, "REPORT_EXECUTION")
    masked = ScriptedDevice(control, other.id, device.http, device.key)
    check_refused(masked.report("", {"kind": "event", "event": "x"}, fence=0), 403, "REPORT_EXECUTION")


def test_a_body_beyond_the_limit_is_refused(control: ControlProcess, device: ScriptedDevice) -> None:
    check_refused(device.http("POST", "/device/v1/reports", b"x" * (4 * 1024 * 1024 + 1)), 413, "API_TOO_LARGE")


# -- the process


def test_status_and_keys(control: ControlProcess) -> None:
    assert control.operators("GET", "/v1/status").json["devices"]["ACTIVE"] >= 1
    names = {line["name"] for line in control.operators("GET", "/v1/keys").json}
    assert {"certificate/server", "certificate/device-ca", "director/root"} <= names


def test_missing_keys_and_a_busy_port_are_named(control: ControlProcess, tmp_path: Path) -> None:
    text = control.config.read_text()
    (tmp_path / "busy.toml").write_text(text.replace("operators_port = 0", f"operators_port = {control.ports['operators']}"))
    (tmp_path / "keys.toml").write_text(text.replace("site/control/keys", "site/control/nothing"))
    for name, code in (("busy", "SETUP_PORT_BUSY"), ("keys", "CONFIG_INVALID")):
        folders = ["--state-dir", str(tmp_path / name), "--run-dir", str(tmp_path / name)]
        done = subprocess.run(
            [sys.executable, "-m", "control_plane", "--config", str(tmp_path / f"{name}.toml"), *folders],
            cwd=REPO, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, code in done.stderr, "remedy" in done.stderr) == (1, True, True), done.stderr


def test_bytes_of_roots_in_the_pins_are_the_sites(control: ControlProcess, device: ScriptedDevice) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pins = control.enrolment("POST", "/enrol/v1/requests", enrolment_request(control.token(), key)).json["pins"]
    assert base64.b64decode(pins["image_root"]) == (control.site.public / "image-root.json").read_bytes()
    assert device.http("GET", "/device/v1/director/1.root.json").body == base64.b64decode(pins["director_root"])
