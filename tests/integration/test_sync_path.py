"""Device to Delta on real parts: mosquitto with TLS and ACL, Delta tables on disk, ingest as a process that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.uplink.uplink import SILENCE
from tests.integration.sync_site import Device, SyncSite, rows_of, until


@pytest.fixture
def site(open_folder: Path) -> Iterator[SyncSite]:
    site = SyncSite(open_folder)
    try:
        yield site
    finally:
        site.close()


def check_lake_equals_ledgers(site: SyncSite, *devices: Device) -> None:
    """By count and by running hash, for every stream that has rows."""
    audit = site.audit()
    assert audit["clean"], audit
    ledgers = {stream: entry for device in devices for stream, entry in device.outbox.ledger().items() if entry.accepted_seq}
    found = {stream: (account["rows"], account["running_hash"], account["last_seq"]) for stream, account in audit["streams"].items()}
    assert found == {stream: (entry.accepted_rows, entry.running_hash, entry.accepted_seq) for stream, entry in ledgers.items()}


def test_rows_arrive_once_though_ingest_and_broker_are_killed(site: SyncSite) -> None:
    site.broker.start()
    site.start_ingest(flush_s=0.5)
    devices = [site.device(letter, {"live": 64 << 20, "bulk": 64 << 20}) for letter in "abc"]
    for device in devices:
        device.start()
    for number in range(30):
        for device in devices:
            device.accept(rows_of(number * 20, 20))
    until(lambda: (f := site.figures())["received_rows"] > f["committed_rows"], "ingest has rows in memory")
    in_memory = site.figures()["received_rows"] - site.figures()["committed_rows"]
    site.kill_ingest()
    assert in_memory > 0
    for device in devices:
        device.accept(rows_of(600, 20))
        device.accept(rows_of(0, 7), "bulk")
    site.broker.kill()
    site.broker.start()
    site.start_ingest(flush_s=0.2)
    for number in range(31, 40):
        for device in devices:
            device.accept(rows_of(number * 20, 20))
    site.broker.kill()
    site.broker.start()
    until(lambda: all(device.drained() for device in devices), "every row is acknowledged")
    assert site.stop_ingest() == 0
    check_lake_equals_ledgers(site, *devices)
    assert [device.alarms for device in devices] == [[], [], []]


def test_the_broker_drops_nothing_of_a_backlog_of_small_batches(site: SyncSite) -> None:
    """Within the credit in bytes there may be thousands of them; what is dropped comes again only after a silence."""
    device = site.device("a", silence=SILENCE)
    for first in range(2000):
        device.accept(rows_of(first, 1))
    site.broker.start()
    site.start_ingest()
    device.start()
    until(device.drained, "every row is acknowledged")
    assert device.uplink.figures()["gone_back"] == 0
    check_lake_equals_ledgers(site, device)
