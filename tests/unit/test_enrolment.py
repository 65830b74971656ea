"""Enrolment, the downloader and renewal over real TLS."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_pem_x509_certificates, load_pem_x509_csr

from contracts.canonical import CONTEXT_BATCH_KEY
from contracts.enrolment import Token
from contracts.errors import LocalFaultError, RejectedError, SkerryError, TransientError, TrustError
from contracts.manifest import CHUNK_BYTES, Member
from control_plane.ceremony.layout import Site
from edge_agent.adapters.blobs import BlobClient, StoppedError
from edge_agent.adapters.control_plane_client import ControlPlaneClient
from edge_agent.adapters.enrolment import enrol, presented_ca
from edge_agent.adapters.http import Http
from edge_agent.adapters.identity import IDENTITY, Identity
from edge_agent.adapters.new_keys import NewKeys, keep
from edge_agent.config import NetworkConfig
from tests.simulators.bundle_bytes import member
from tests.simulators.director import DEVICE, Cloud, make_site

NETWORK = NetworkConfig(connect_timeout_s=5, metadata_deadline_s=5)
DATA = os.urandom(3 * CHUNK_BYTES + 100)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def cloud(site: Site, tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, site)
    yield cloud
    cloud.close()


def token(cloud: Cloud, **changes: Any) -> Token:
    return Token(**{"secret": "s" * 24, "ca_sha256": cloud.ca_sha256(), **changes})


def try_enrol(cloud: Cloud, folder: Path, *, waits: list[float] | None = None, server: str = "", **changes: Any) -> Identity:
    record = waits.append if waits is not None else (lambda seconds: None)
    return enrol(server or cloud.enrolment, token(cloud, **changes), folder, {"profile": "p"}, network=NETWORK, wait=record)


def refused(kind: type[SkerryError], cloud: Cloud, folder: Path, **changes: Any) -> str:
    with pytest.raises(kind) as refusal:
        try_enrol(cloud, folder, **changes)
    return refusal.value.code


def test_a_device_enrols_and_knows_itself(cloud: Cloud, tmp_path: Path) -> None:
    identity = try_enrol(cloud, tmp_path / "keys")
    assert Identity.load(tmp_path / "keys") == identity
    assert identity.device == DEVICE
    assert identity.pins == cloud.pins()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_approval_is_waited_for(cloud: Cloud, tmp_path: Path) -> None:
    cloud.pending_approvals, waits = 3, list[float]()
    try_enrol(cloud, tmp_path / "keys", waits=waits)
    assert len(waits) == 3
    assert not (tmp_path / "keys" / "enrolment.json").exists()


def test_an_interrupted_wait_is_taken_up_with_the_same_keys(cloud: Cloud, tmp_path: Path) -> None:
    cloud.pending_approvals = 2

    def gone(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enrol(cloud.enrolment, token(cloud), tmp_path / "keys", {}, network=NETWORK, wait=gone)
    try_enrol(cloud, tmp_path / "keys")
    assert [path for method, path, _ in cloud.requests if method == "POST"] == ["/enrol/v1/requests"]


def test_a_server_that_the_token_does_not_name_is_not_spoken_to(cloud: Cloud, tmp_path: Path) -> None:
    assert refused(TrustError, cloud, tmp_path / "keys", ca_sha256="0" * 64) == "ENROL_SERVER_UNKNOWN"
    assert cloud.requests == []


def test_a_chain_that_only_shows_the_tokens_ca_is_not_enough(cloud: Cloud, tmp_path: Path) -> None:
    """A thief may present our CA's certificate beside his own leaf; the second connection verifies the chain."""
    thief = Cloud(tmp_path / "thief")
    server = thief.site.folder / "control/keys/server.crt"
    server.write_bytes(server.read_bytes() + cloud.site.read("public/site-ca.crt"))
    thief.close()
    thief._serve()
    host, port = thief.enrolment.split(":")
    assert presented_ca(host, int(port), cloud.ca_sha256(), 5).startswith("-----BEGIN")
    assert refused(TransientError, cloud, tmp_path / "keys", server=thief.enrolment) == "API_UNREACHABLE"
    assert thief.requests == []
    thief.close()


def test_refusals_keep_their_code(cloud: Cloud, tmp_path: Path) -> None:
    assert refused(RejectedError, cloud, tmp_path / "keys", secret="spent" + "s" * 24) == "ENROL_TOKEN_SPENT"
    assert refused(TransientError, cloud, tmp_path / "keys", server="localhost:1") == "ENROL_UNREACHABLE"
    for nonsense in ("nonsense", "localhost", ":1", "localhost:0", "localhost:70000", "localhost:x"):
        assert refused(LocalFaultError, cloud, tmp_path / "keys", server=nonsense) == "CONFIG_INVALID"
    with pytest.raises(LocalFaultError) as missing:
        Identity.load(tmp_path / "keys")
    assert missing.value.code == "ENROL_MISSING"


def test_the_text_of_an_identity_is_what_its_certificate_says(cloud: Cloud, tmp_path: Path) -> None:
    identity = try_enrol(cloud, tmp_path / "keys")
    certificate = load_pem_x509_certificates((tmp_path / "keys" / IDENTITY).read_bytes())[0]
    assert (identity.not_before, identity.not_after) == (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    assert identity.tls().get_ca_certs()  # key and certificate are found behind the text


@pytest.mark.parametrize("damage", [b"", b"device: dev-x\n", b"device: " + DEVICE.encode() + b"\n", b"\xff\xfe: \n", b"nonsense\n"])
def test_an_identity_that_does_not_say_whose_it_is_is_refused(cloud: Cloud, tmp_path: Path, damage: bytes) -> None:
    path = try_enrol(cloud, tmp_path / "keys").folder / IDENTITY
    path.write_bytes(damage + path.read_bytes().partition(b"not after")[2].partition(b"\n")[2])
    with pytest.raises(LocalFaultError, match=r"identity\.pem") as damaged:
        Identity.load(tmp_path / "keys")
    assert damaged.value.code == "ENROL_MISSING"


def test_a_certificate_for_another_key_or_name_is_not_kept(cloud: Cloud, tmp_path: Path) -> None:
    keys, granted = NewKeys.make(), cloud.grant(NewKeys.make().csr_pem())
    with pytest.raises(TrustError):
        keep(tmp_path / "keys", keys, granted, granted.pins)
    for name in ("svc-control-1", "dev-" + "b" * 26):
        certificate = cloud.issue(load_pem_x509_csr(keys.csr_pem().encode()).public_key(), name, timedelta(days=1))
        with pytest.raises(TrustError):
            keep(tmp_path / "keys", keys, granted.model_copy(update={"certificate_pem": certificate}), granted.pins)
    assert not (tmp_path / "keys").exists()


def test_the_batch_key_is_vouched_for_by_the_identity_key() -> None:
    keys = NewKeys.make()
    public, batch = load_pem_x509_csr(keys.csr_pem().encode()).public_key(), keys.batch_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(batch.signature_bytes, CONTEXT_BATCH_KEY + batch.raw, ec.ECDSA(hashes.SHA256()))
    assert NewKeys.make().batch_key().raw != batch.raw


def test_renewal_makes_new_keys_and_keeps_name_and_pins(cloud: Cloud, tmp_path: Path) -> None:
    identity = try_enrol(cloud, tmp_path / "keys")
    http = Http(identity.tls, NETWORK)
    before = identity.signing_key().key_id
    assert not identity.due(datetime.now(timezone.utc))
    assert identity.due(datetime.now(timezone.utc) + timedelta(days=4))
    renewed = ControlPlaneClient(http, cloud.url).renew(identity)
    assert (renewed.device, renewed.pins) == (identity.device, identity.pins)
    assert renewed.signing_key().key_id != before
    http.close()


# -- members


@pytest.fixture
def blobs(cloud: Cloud, tmp_path: Path) -> Iterator[BlobClient]:
    identity = try_enrol(cloud, tmp_path / "keys")
    http = Http(identity.tls, NETWORK)
    yield BlobClient(http, f"{cloud.url}/device/v1/blobs", deadline_s=10)
    http.close()


def fetch(blobs: BlobClient, path: Path, data: bytes = DATA) -> None:
    blobs.fetch(Member.model_validate(member(data)), path, lambda: False)


def test_a_member_is_fetched_and_resumed_from_whole_chunks(cloud: Cloud, blobs: BlobClient, tmp_path: Path) -> None:
    cloud.blobs[member(DATA)["sha256"]] = DATA
    cloud.cut_after = CHUNK_BYTES + 1000
    with pytest.raises(TransientError):
        fetch(blobs, tmp_path / "model")
    assert (tmp_path / "model").stat().st_size == CHUNK_BYTES
    fetch(blobs, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == DATA
    assert [status for _, path, status in cloud.requests if "/blobs/" in path] == [200, 206]
    fetch(blobs, tmp_path / "model")
    assert len([path for _, path, _ in cloud.requests if "/blobs/" in path]) == 2


def test_an_altered_chunk_is_refused_before_more_is_kept(cloud: Cloud, blobs: BlobClient, tmp_path: Path) -> None:
    wrong = bytearray(DATA)
    wrong[CHUNK_BYTES + 5] ^= 1
    cloud.blobs[member(DATA)["sha256"]] = bytes(wrong)
    with pytest.raises(TrustError) as refusal:
        fetch(blobs, tmp_path / "model")
    assert refusal.value.code == "BUNDLE_MEMBER_DIGEST"
    assert (tmp_path / "model").stat().st_size == CHUNK_BYTES


def test_endless_data_is_refused(cloud: Cloud, blobs: BlobClient, tmp_path: Path) -> None:
    cloud.blobs[member(DATA)["sha256"]] = DATA + b"x" * 10_000_000
    with pytest.raises(TrustError) as refusal:
        fetch(blobs, tmp_path / "model")
    assert refusal.value.code == "BUNDLE_MEMBER_DIGEST"
    assert (tmp_path / "model").stat().st_size <= len(DATA)


def test_damage_on_the_disk_is_fetched_anew(cloud: Cloud, blobs: BlobClient, tmp_path: Path) -> None:
    cloud.blobs[member(DATA)["sha256"]] = DATA
    fetch(blobs, tmp_path / "model")
    damaged = bytearray(DATA)
    damaged[2 * CHUNK_BYTES] ^= 1
    (tmp_path / "model").write_bytes(bytes(damaged))
    fetch(blobs, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == DATA


def test_a_download_stops_when_asked_and_a_missing_blob_is_tried_again(cloud: Cloud, blobs: BlobClient, tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        fetch(blobs, tmp_path / "model")
    cloud.blobs[member(DATA)["sha256"]] = DATA
    with pytest.raises(StoppedError):
        blobs.fetch(Member.model_validate(member(DATA)), tmp_path / "model", lambda: True)


def test_an_empty_member_needs_no_request(cloud: Cloud, blobs: BlobClient, tmp_path: Path) -> None:
    asked = len(cloud.requests)
    fetch(blobs, tmp_path / "empty", b"")
    assert (tmp_path / "empty").read_bytes() == b""
    assert len(cloud.requests) == asked


def test_the_clients_tls_is_1_3_and_verifies(cloud: Cloud, tmp_path: Path) -> None:
    context = try_enrol(cloud, tmp_path / "keys").tls()
    assert (context.minimum_version, context.verify_mode, context.check_hostname) == (ssl.TLSVersion.TLSv1_3, ssl.CERT_REQUIRED, True)
