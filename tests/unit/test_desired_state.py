"""Desired rows and the director's answers: one version never has two contents, memory ends with the row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tuf.api.metadata import Metadata, Timestamp

from contracts.assignment import Assignment
from contracts.errors import RejectedError
from control_plane.adapters.director import Director, Settings
from control_plane.adapters.peer_certificate import Peer
from control_plane.services.desired_state import DesiredState
from control_plane.services.registry_view import RegistryView
from control_plane.services.revoke_device import revoke_device
from control_plane.services.unit_of_work import Units
from control_plane.store import desired, devices
from control_plane.store.base import Database, make_engine
from control_plane.store.devices import DeviceRow
from control_plane.store.migrate import migrate
from tests.simulators.clock import START_UTC, SimulatedClock

DEVICE = "dev-" + "a" * 26
PEER = Peer("device", DEVICE, "", "f" * 64, START_UTC + timedelta(days=7))
LIFE_S = 1000.0


class Replica:
    """One control-plane process's memory over the shared database."""

    def __init__(self, path: Path, key: Path, clock: SimulatedClock) -> None:
        self.database = Database(make_engine(f"sqlite:///{path}"))
        self.units = Units(self.database, clock)
        self.desired = DesiredState(self.units, Director(key, Settings(LIFE_S, 30, 30, 0)), clock)
        self.view = RegistryView(self.units, self.desired, clock)

    def order(self, **order: object) -> None:
        with self.units.write() as work:
            desired.order(work.session, DEVICE, {"kind": "none", **order}, work.now)


class Two:
    def __init__(self, folder: Path) -> None:
        key = folder / "director.pem"
        key.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.clock = SimulatedClock()
        self.one, self.other = (Replica(folder / "skerry.db", key, self.clock) for _ in range(2))
        migrate(self.one.database.engine)
        with self.one.units.write() as work:
            row = DeviceRow(id=DEVICE, state="ACTIVE", created_utc=work.now, revision=0)
            work.session.add(row)
            devices.touch(work.session, row)
        self.one.order()

    def close(self) -> None:
        self.one.database.close()
        self.other.database.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    made = Two(tmp_path)
    yield made
    made.close()


def test_two_replicas_sign_the_same_bytes(two: Two) -> None:
    assert two.one.desired.prepare(DEVICE) == two.other.desired.prepare(DEVICE)


def test_a_new_order_is_a_higher_generation_and_version(two: Two) -> None:
    before = two.one.desired.prepare(DEVICE)
    two.one.order(execution="c/d/1", fence=7)
    after = two.one.desired.prepare(DEVICE)
    old, new = (Assignment.model_validate_json(files.files["assignment.json"]) for files in (before, after))
    assert after.version > before.version
    assert new.desired_generation > old.desired_generation
    assert new.issued_at == two.clock.utc()


def test_half_of_its_life_later_it_is_signed_anew_with_the_same_order(two: Two) -> None:
    first = two.one.desired.prepare(DEVICE)
    two.clock.advance(LIFE_S / 2 - 1)
    assert two.one.desired.cached(DEVICE) == first
    two.clock.advance(1)
    assert two.one.desired.cached(DEVICE) is None
    renewed = two.one.desired.prepare(DEVICE)
    assert renewed.version > first.version
    assert Metadata[Timestamp].from_bytes(renewed.files["timestamp.json"]).signed.expires == two.clock.utc() + timedelta(seconds=LIFE_S)
    old, new = (Assignment.model_validate_json(files.files["assignment.json"]) for files in (first, renewed))
    assert new.desired_generation == old.desired_generation
    assert two.other.desired.prepare(DEVICE) == renewed, "the other replica finds it renewed"


def test_of_two_replicas_that_renew_one_version_only_one_does(two: Two) -> None:
    with two.one.units.read() as session:
        seen = desired.find(session, DEVICE)
    assert seen is not None
    done = []
    for replica in (two.one, two.other):
        with replica.units.write() as work:
            done.append(desired.reissue(work.session, DEVICE, seen.director_version, work.now))
    assert done == [True, False]


def test_a_writer_on_an_older_version_writes_nothing(two: Two) -> None:
    with two.one.database.read() as session:
        stale = desired.find(session, DEVICE)
        assert stale is not None
    two.other.order(execution="c/d/1")

    def write_on_what_was_read() -> None:
        with two.one.units.write() as work:
            desired._issue(work.session, work.session.merge(stale, load=False), 10**9, work.now)

    with pytest.raises(RejectedError, match="API_CONFLICT"):
        write_on_what_was_read()


def test_versions_and_generations_jump_with_the_clock_so_a_restored_database_repeats_none(two: Two) -> None:
    with two.one.units.read() as session:
        row = desired.find(session, DEVICE)
    assert row is not None
    assert min(row.director_version, row.generation) >= int(START_UTC.timestamp())


def test_memory_ends_at_once_here_and_within_a_second_elsewhere(two: Two) -> None:
    for replica in (two.one, two.other):
        replica.view.require_active(PEER)
        replica.desired.prepare(DEVICE)
    two.one.order(execution="c/d/1")
    two.one.view.require_active(PEER)
    assert two.one.desired.cached(DEVICE) is None
    two.other.view.require_active(PEER)
    assert two.other.desired.cached(DEVICE) is not None, "still within its second"
    two.clock.advance(1)
    two.other.view.require_active(PEER)
    assert two.other.desired.cached(DEVICE) is None


def test_revocation_takes_effect_at_once_here_and_within_a_second_elsewhere(two: Two) -> None:
    for replica in (two.one, two.other):
        replica.view.require_active(PEER)
    revoke_device(two.one.units, DEVICE, "operator:test")
    with pytest.raises(RejectedError, match="API_FORBIDDEN"):
        two.one.view.require_active(PEER)
    two.other.view.require_active(PEER)
    two.clock.advance(1)
    with pytest.raises(RejectedError, match="API_FORBIDDEN"):
        two.other.view.require_active(PEER)


def test_an_expired_certificate_ends_on_a_connection_that_lives_on(two: Two) -> None:
    two.one.view.require_active(PEER)
    two.clock.advance(7 * 86_400)
    with pytest.raises(RejectedError, match="revoked or expired"):
        two.one.view.require_active(PEER)
