"""What a device may rely on at `/device/v1`, asked of the real control plane and of the simulated cloud with its faults off."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from contracts.assignment import Assignment
from contracts.canonical import sha256_hex
from tests.integration.control_process import ControlProcess, Http, ScriptedDevice, batch_key, csr, store
from tests.simulators.director import DEVICE, Cloud

BLOB = bytes(range(256)) * 8
PREFIX = "/device/v1/"


@dataclass
class Cloudlike:
    """One device's view of a cloud: its authenticated client, an unauthenticated one, and a blob that lies there."""

    device: str
    http: Http
    stranger: Http
    execution: str

    def get(self, path: str, **headers: str) -> Any:
        return self.http("GET", PREFIX + path, **headers)

    def report(self, *numbers: int) -> Any:
        stamp = {"fence": 1, "boot_id": "b", "mono_ms": 1, "utc": "2026-01-01T00:00:00Z", "bundle_digest": "", "kind": "event"}
        reports = [{**stamp, "execution": self.execution, "seq": number, "event": "noticed"} for number in numbers]
        hello = {"agent_version": "0.1.0", "profile": "x86-cpu-avx2", "running_digest": "", "ledger": {}}
        return self.http("POST", PREFIX + "reports", {"device": self.device, "hello": hello, "reports": reports})


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloudlike]:
    folder = tmp_path_factory.mktemp("real")
    control = ControlProcess(folder)
    try:
        device = ScriptedDevice.enrol(control.start(), folder)
        assert control.operators("PUT", f"/v1/blobs/{sha256_hex(BLOB)}", BLOB).status == 201
        yield Cloudlike(device.id, device.http, control.devices(None), "")
    finally:
        control.stop()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloudlike]:
    folder = tmp_path_factory.mktemp("simulated")
    cloud = Cloud(folder)
    cloud.blobs[sha256_hex(BLOB)] = BLOB
    cloud.assign(
        Assignment.model_validate({"device": DEVICE, "desired_generation": 1, "issued_at": datetime.now(timezone.utc), "kind": "none"})
    )
    key, ca = ec.generate_private_key(ec.SECP256R1()), folder / "ca.crt"
    ca.write_bytes(cloud.site.read("public/site-ca.crt"))
    identity = store(folder, DEVICE, cloud.issue(key.public_key(), DEVICE, timedelta(days=1)), key)
    http, stranger = Http(cloud.url, ca, identity), Http(cloud.url, ca)
    yield Cloudlike(DEVICE, http, stranger, "")
    http.close()
    stranger.close()
    cloud.close()


@pytest.fixture(params=["real", "simulated"])
def cloud(request: pytest.FixtureRequest) -> Cloudlike:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_the_timestamp_is_asked_for_conditionally(cloud: Cloudlike) -> None:
    first = cloud.get("director/timestamp.json")
    again = cloud.get("director/timestamp.json", If_None_Match=first.headers["etag"])
    other = cloud.get("director/timestamp.json", If_None_Match='"of another day"')
    assert (first.status, again.status, again.body, other.status) == (200, 304, b"", 200)
    assert other.body == first.body


def test_the_director_has_one_target_for_this_device(cloud: Cloudlike) -> None:
    order = Assignment.model_validate(cloud.get("director/assignment.json").json)
    assert (order.device, order.kind) == (cloud.device, "none")
    for role in ("targets", "snapshot"):
        assert cloud.get(f"director/{role}.json").json["signed"]["_type"] == role


@pytest.mark.parametrize("path", ["director/2.root.json", "image/2.root.json", "director/other.json", "blobs/" + "0" * 64])
def test_what_is_not_there_is_404(cloud: Cloudlike, path: str) -> None:
    """The next root above all: ngclient asks for it until it is not there."""
    assert cloud.get(path).status == 404


def test_the_image_repository_is_served_whole(cloud: Cloudlike) -> None:
    timestamp = cloud.get("image/timestamp.json")
    assert timestamp.json["signed"]["_type"] == "timestamp"
    snapshot = cloud.get(f"image/{timestamp.json['signed']['meta']['snapshot.json']['version']}.snapshot.json")
    targets = cloud.get(f"image/{snapshot.json['signed']['meta']['targets.json']['version']}.targets.json")
    assert targets.json["signed"]["delegations"]["roles"]


def test_a_blob_is_taken_up_where_it_broke(cloud: Cloudlike) -> None:
    path = f"blobs/{sha256_hex(BLOB)}"
    whole, rest, beyond = cloud.get(path), cloud.get(path, Range="bytes=1000-"), cloud.get(path, Range=f"bytes={len(BLOB)}-")
    assert (whole.status, whole.body) == (200, BLOB)
    assert (rest.status, rest.body) == (206, BLOB[1000:])
    assert beyond.status == 416


def test_reports_are_answered_with_the_highest_contiguous_number(cloud: Cloudlike) -> None:
    assert cloud.report(1, 2).json["accepted"] == {"": 2}
    assert cloud.report(1, 2).json["accepted"] == {"": 2}, "told twice"
    assert cloud.report(4).json["accepted"] == {"": 2}, "one is missing"
    assert cloud.report(3, 4).json["accepted"] == {"": 4}


def test_a_renewal_certifies_the_same_device_and_the_new_key(cloud: Cloudlike) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    answer = cloud.http("POST", PREFIX + "renewals", {"csr_pem": csr(key, "somebody-else"), "batch_key": batch_key(key)})
    leaf = x509.load_pem_x509_certificate(answer.json["certificate_pem"].encode())
    assert answer.status == 201
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == cloud.device
    assert _spki(leaf.public_key()) == _spki(key.public_key())


def test_nobody_is_heard_without_a_certificate(cloud: Cloudlike) -> None:
    with pytest.raises((urllib3.exceptions.HTTPError, ssl.SSLError)):
        cloud.stranger("GET", PREFIX + "director/timestamp.json")


def _spki(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
