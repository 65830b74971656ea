"""The TUF client against real repositories, served over HTTPS with mutual TLS: what it accepts and, one by one, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from contracts.assignment import Assignment, Component
from contracts.errors import LocalFaultError, RejectedError, SkerryError, TransientError, TrustError
from control_plane.ceremony import roles
from control_plane.ceremony.layout import Site
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.adapters.http import Http
from edge_agent.adapters.identity import Identity
from edge_agent.adapters.new_keys import NewKeys, keep
from edge_agent.adapters.tuf_client import TufClient
from edge_agent.config import NetworkConfig
from program.clock import SystemClock
from tests.simulators.bundle_bytes import BundleBytes, make_bundle
from tests.simulators.director import DEVICE, Cloud, empty, make_site

BUNDLE = make_bundle(1)
NETWORK = NetworkConfig(metadata_deadline_s=5, rate_grace_s=5)


class ShiftedClock(SystemClock):
    def __init__(self) -> None:
        self.shift = timedelta()

    def utc(self) -> datetime:
        return super().utc() + self.shift


@dataclass
class Client:
    cloud: Cloud
    folder: Path
    identity: Identity
    clock: ShiftedClock
    network: NetworkConfig = NETWORK

    def __post_init__(self) -> None:
        self.db = AgentDb(self.folder / "agent.db")
        self.http = Http(self.identity.tls, self.network)
        self.trust = TufClient(self.http, self.cloud.pins(), self.folder / "tuf", self.db, self.clock)

    def close(self) -> None:
        self.http.close()
        self.db.close()

    def again(self, **changes: Any) -> Client:
        """The agent was off."""
        self.close()
        return Client(self.cloud, self.folder, self.identity, self.clock, **changes)

    def refused(self, kind: type[SkerryError], manifest: bool = False) -> str:
        with pytest.raises(kind) as refused:
            self.trust.manifest(BUNDLE.path, lambda: False) if manifest else self.trust.poll()
        return refused.value.code


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def cloud(site: Site, tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, site)
    cloud.publish(BUNDLE)
    cloud.assign(assignment(1))
    yield cloud
    cloud.close()


@pytest.fixture
def client(cloud: Cloud, tmp_path: Path) -> Iterator[Client]:
    keys = NewKeys.make()
    granted = cloud.grant(keys.csr_pem())
    client = Client(cloud, tmp_path, keep(tmp_path / "keys", keys, granted, granted.pins), ShiftedClock())
    yield client
    client.close()


def assignment(generation: int, bundle: BundleBytes = BUNDLE, **changes: Any) -> Assignment:
    component = Component(target=bundle.path, length=len(bundle.manifest), sha256=bundle.digest)
    values = {"device": DEVICE, "issued_at": datetime.now(timezone.utc), "kind": "install", "execution": "c/d/1", "fence": generation}
    return Assignment.model_validate({**values, "desired_generation": generation, "components": [component.model_dump()], **changes})


def test_an_assignment_and_its_manifest_are_verified(client: Client) -> None:
    assert client.trust.poll().desired_generation == 1
    image, raw = client.trust.manifest(BUNDLE.path, lambda: False)
    assert (image.sha256, raw) == (BUNDLE.digest, BUNDLE.manifest)


def test_a_quiet_poll_is_one_conditional_request_on_the_same_connection(client: Client, cloud: Cloud) -> None:
    client.trust.poll()
    before, connections = len(cloud.requests), cloud.connections
    for _ in range(3):
        assert client.trust.poll().desired_generation == 1
    assert cloud.requests[before:] == [("GET", "/device/v1/director/timestamp.json", 304)] * 3
    assert (cloud.connections, connections) == (1, 1)


def test_a_newer_assignment_is_seen_at_the_next_poll(client: Client, cloud: Cloud) -> None:
    client.trust.poll()
    cloud.assign(assignment(2))
    assert client.trust.poll().desired_generation == 2


def test_a_poll_at_half_the_timestamps_life_runs_the_updater(client: Client, cloud: Cloud) -> None:
    client.trust.poll()
    client.clock.shift = timedelta(hours=13)
    client.trust.poll()
    assert cloud.asked("/snapshot.json") == 1  # unchanged, so ngclient keeps it
    assert cloud.asked("/2.root.json") == 2


def test_not_modified_is_judged_by_the_stored_expiry(client: Client, cloud: Cloud) -> None:
    cloud.assign(assignment(2), expires=timedelta(seconds=2))
    client.trust.poll()
    client.clock.shift = timedelta(seconds=10)
    client.db.set_fact("director", client.db.fact("director") | {"refresh_at": "2999-01-01T00:00:00+00:00"})
    asked = len(cloud.requests)
    assert client.refused(TrustError) == "TUF_EXPIRED"
    assert [status for _, _, status in cloud.requests[asked:]] == [304]


@pytest.mark.parametrize("repository", ["image", "director"])
def test_two_root_rotations_while_the_agent_was_off(client: Client, cloud: Cloud, repository: Any) -> None:
    client.trust.poll()
    client.trust.manifest(BUNDLE.path, lambda: False)
    assert [cloud.rotate(repository), cloud.rotate(repository)] == [2, 3]
    client = client.again()
    client.clock.shift = timedelta(hours=13)
    assert client.trust.poll().desired_generation == 1
    assert client.trust.manifest(BUNDLE.path, lambda: False)[1] == BUNDLE.manifest
    assert client.db.floors().versions[f"{repository}/root"] == 3
    client.close()


@pytest.mark.parametrize("repository", ["image", "director"])
@pytest.mark.parametrize(("old", "new"), [(2, 1), (1, 2), (2, 0), (0, 2)])
def test_a_root_that_is_one_key_short_or_by_one_side_only(client: Client, cloud: Cloud, repository: str, old: int, new: int) -> None:
    present = [roles.signer_from_pem(cloud.site.read(f"offline/{repository}-root-{n}.pem")) for n in (1, 2, 3)]
    thief = [roles.signer_from_pem(roles.new_key_pem()) for _ in range(3)]
    root = cloud.site.read(f"public/{repository}-root.json")
    keys = [key.public_key for key in thief]
    cloud.files[f"{repository}/2.root.json"] = roles.next_root(root, keys, [*present[:old], *thief[:new]], datetime.now(timezone.utc))
    assert client.refused(TrustError, manifest=repository == "image") == "TUF_UNSIGNED"


def test_an_older_version_is_refused(client: Client, cloud: Cloud) -> None:
    cloud.assign(assignment(2), version=5)
    client.trust.poll()
    cloud.assign(assignment(3), version=4)
    assert client.refused(TrustError) == "TUF_ROLLBACK"


def test_an_older_version_is_refused_with_an_emptied_cache(client: Client, cloud: Cloud) -> None:
    cloud.assign(assignment(2), version=5)
    client.trust.poll()
    cloud.assign(assignment(3), version=4)
    client = client.again()
    empty(client.folder / "tuf")
    assert client.refused(TrustError) == "TUF_ROLLBACK"
    client.close()


def test_an_older_version_is_refused_with_a_cache_cut_to_nothing(client: Client, cloud: Cloud) -> None:
    cloud.assign(assignment(2), version=5)
    client.trust.poll()
    cloud.assign(assignment(3), version=4)
    for path in (client.folder / "tuf").rglob("*.json"):
        path.write_bytes(b"")
    assert client.refused(TrustError) == "TUF_ROLLBACK"


def test_an_older_image_repository_is_refused_with_an_emptied_cache(client: Client, cloud: Cloud) -> None:
    client.trust.manifest(BUNDLE.path, lambda: False)
    old = {path.name: path.read_bytes() for path in cloud.site.image.iterdir()}
    cloud.sign_image()
    client.trust.manifest(BUNDLE.path, lambda: False)
    cloud.files["image/timestamp.json"] = old["timestamp.json"]
    empty(client.folder / "tuf")
    assert client.refused(TrustError, manifest=True) == "TUF_ROLLBACK"


def test_a_clock_of_1975_stops_updates_before_a_request(client: Client, cloud: Cloud) -> None:
    client.trust.poll()
    asked = len(cloud.requests)
    client.clock.shift = datetime(1975, 1, 1, tzinfo=timezone.utc) - datetime.now(timezone.utc)
    assert client.refused(LocalFaultError) == "TUF_CLOCK_BELOW_FLOOR"
    assert client.refused(LocalFaultError, manifest=True) == "TUF_CLOCK_BELOW_FLOOR"
    assert len(cloud.requests) == asked


def test_the_newest_verified_issue_time_is_a_floor(client: Client) -> None:
    issued = client.trust.poll().issued_at
    client.clock.shift = timedelta(hours=-1)
    assert client.db.floors().time_utc_s >= issued.timestamp() - 1e-3
    assert client.refused(LocalFaultError) == "TUF_CLOCK_BELOW_FLOOR"


def test_an_expired_timestamp(client: Client, cloud: Cloud) -> None:
    cloud.assign(assignment(2), expires=timedelta(seconds=-1))
    assert client.refused(TrustError) == "TUF_EXPIRED"


def test_a_slow_server_hits_the_deadline(client: Client, cloud: Cloud) -> None:
    cloud.piece_bytes, cloud.piece_delay_s = 1, 0.02
    client = client.again(network=NETWORK.model_copy(update={"metadata_deadline_s": 0.3}))
    assert client.refused(TransientError) == "TUF_TOO_SLOW"
    client.close()


def test_a_server_below_the_lowest_rate(client: Client, cloud: Cloud) -> None:
    cloud.piece_bytes, cloud.piece_delay_s = 1, 0.02
    client = client.again(network=NETWORK.model_copy(update={"rate_grace_s": 0.2}))
    assert client.refused(TransientError) == "TUF_TOO_SLOW"
    client.close()


def test_endless_data(client: Client, cloud: Cloud) -> None:
    cloud.files["director/timestamp.json"] = b" " * 100_000
    assert client.refused(TrustError) == "TUF_INVALID"


def test_garbage(client: Client, cloud: Cloud) -> None:
    cloud.files["director/timestamp.json"] = b"{}"
    assert client.refused(TrustError) == "TUF_INVALID"


def test_an_assignment_with_other_bytes(client: Client, cloud: Cloud) -> None:
    raw = cloud.files["director/assignment.json"]
    assert raw
    cloud.files["director/assignment.json"] = raw.replace(b'"install"', b'"INSTALL"')
    assert client.refused(TrustError) == "TUF_INVALID"


def test_a_director_without_an_assignment(client: Client, cloud: Cloud) -> None:
    key, now = roles.signer_from_pem(cloud.site.read("control/keys/director.pem")), datetime.now(timezone.utc)
    cloud.files["director/targets.json"] = roles.empty_role(1, key, now)
    assert client.refused(RejectedError) == "ASSIGNMENT_INVALID"


def test_a_server_that_is_away_or_out_of_order(client: Client, cloud: Cloud) -> None:
    cloud.files["director/snapshot.json"] = None
    assert client.refused(TransientError) == "TUF_UNREACHABLE"
    cloud.files["director/timestamp.json"] = None
    assert client.refused(TransientError) == "API_UNREACHABLE"
    cloud.close()
    assert client.refused(TransientError) == "API_UNREACHABLE"


def test_a_bundle_that_the_image_repository_lacks(client: Client) -> None:
    with pytest.raises(TrustError) as refused:
        client.trust.manifest(make_bundle(9).path, lambda: False)
    assert refused.value.code == "BUNDLE_NOT_IN_IMAGE"


def test_a_role_signed_by_another_key(client: Client, cloud: Cloud) -> None:
    cloud.sign_image(role_key=CryptoSigner.generate_ed25519())
    assert client.refused(TrustError, manifest=True) == "TUF_UNSIGNED"


def test_a_manifest_with_other_bytes(client: Client, cloud: Cloud) -> None:
    cloud.blobs[BUNDLE.digest] = BUNDLE.manifest.replace(b'"tiny"', b'"TINY"')
    assert client.refused(TrustError, manifest=True) == "BUNDLE_MISMATCH"


def test_a_server_with_another_ca_is_not_spoken_to(client: Client, cloud: Cloud, tmp_path: Path) -> None:
    other = Cloud(tmp_path / "other")
    (tmp_path / "second").mkdir()
    pins = cloud.pins().model_copy(update={"control_url": other.url})
    trust = TufClient(client.http, pins, tmp_path / "second", client.db, client.clock)
    with pytest.raises(TransientError):
        trust.poll()
    assert other.requests == []
    other.close()
