"""Desired rows and the director's answers: one version never has two contents, memory ends with the row."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Timestamp

from contracts.assignment import Assignment
from contracts.errors import RejectedError
from control_plane.services.revoke_device import revoke_device
from control_plane.store import desired, devices
from control_plane.store.base import Session
from control_plane.store.devices import DeviceRow
from tests.simulators.clock import START_UTC
from tests.simulators.replicas import Replica, Site, device_id, peer

DEVICE = device_id(0)
PEER = peer(DEVICE)
LIFE_S = 1000.0


class Ordering(Replica):
    def order(self, **order: object) -> None:
        with self.units.write() as work:
            desired.order(work.session, DEVICE, {"kind": "none", **order}, work.now)


class Two:
    def __init__(self, folder: Path) -> None:
        site = Site.made(folder, device_count=1, life_s=LIFE_S)
        self.clock = site.clock
        self.one, self.other = (Ordering(folder, site.clock, LIFE_S) for _ in range(2))

    def close(self) -> None:
        self.one.close()
        self.other.close()


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


def test_a_device_that_comes_from_another_replica_is_shown_nothing_older(two: Two) -> None:
    """Within the second in which this one's memory is behind: its client would refuse an older version, and alarm."""
    two.other.view.require_active(PEER)
    before = two.other.desired.prepare(DEVICE)
    two.one.order(execution="c/d/1")
    seen = two.one.desired.prepare(DEVICE)
    two.other.view.require_active(PEER)
    assert two.other.desired.cached(DEVICE) == before, "what a 304 is given from"
    assert two.other.desired.prepare(DEVICE) == seen


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


def test_a_device_that_another_replica_let_in_is_let_in_at_once(two: Two) -> None:
    newcomer = device_id(1)
    two.other.view.require_active(PEER)
    with two.one.units.write() as work:
        row = DeviceRow(id=newcomer, state="ACTIVE", created_utc=work.now, revision=0)
        work.session.add(row)
        devices.touch(work.session, row)
    two.other.view.require_active(peer(newcomer))
    with pytest.raises(RejectedError, match="API_FORBIDDEN"):
        two.other.view.require_active(peer(device_id(2)))


def test_who_asks_while_another_looks_waits_for_what_the_other_finds(two: Two) -> None:
    """Nobody had asked for long; the device was revoked elsewhere; two of its requests come at once, on two threads."""
    two.other.view.require_active(PEER)
    revoke_device(two.one.units, DEVICE, "operator:test")
    two.clock.advance(600)
    reading, go_on = threading.Event(), threading.Event()
    refresh = two.other.desired.refresh

    def slowly(session: Session) -> None:
        reading.set()
        assert go_on.wait(10)
        refresh(session)

    two.other.desired.refresh = slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(two.other.view.require_active, PEER)
        assert reading.wait(10)
        second = threads.submit(two.other.view.require_active, PEER)
        done, _ = wait([second], timeout=0.1)
        go_on.set()
        assert not done, "old memory answers nobody"
        for asked in (first, second):
            assert isinstance(asked.exception(10), RejectedError)


def test_an_expired_certificate_ends_on_a_connection_that_lives_on(two: Two) -> None:
    two.one.view.require_active(PEER)
    two.clock.advance(7 * 86_400)
    with pytest.raises(RejectedError, match="revoked or expired"):
        two.one.view.require_active(PEER)
