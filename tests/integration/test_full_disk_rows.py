"""Rows on full disks, real ones of 64 MB: at the lake nothing is acknowledged, at the device the oldest unsent rows are shed and counted.

Afterwards the lake equals the ledgers, by count and by running hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import LocalFaultError
from tests.integration.small_disk import MEGABYTE, SmallDisk, small_disk
from tests.integration.sync_site import Device, SyncSite, rows_of, until
from tests.integration.test_sync_path import check_lake_equals_ledgers

RESERVE_BYTES = 8 * MEGABYTE


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "small") as disk:
        yield disk


@pytest.fixture
def site(open_folder: Path, disk: SmallDisk) -> Iterator[SyncSite]:
    site = SyncSite(open_folder)
    try:
        yield site
    finally:
        site.close()


def accept(device: Device, first: int, batches: int, rows: int = 20) -> None:
    for number in range(batches):
        device.accept(rows_of((first + number) * rows, rows))


def said(site: SyncSite, event: str) -> list[dict[str, Any]]:
    lines = (site.folder / "ingest.log").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


def test_a_full_lake_holds_the_rows_and_goes_on_by_itself(site: SyncSite, disk: SmallDisk) -> None:
    site.lake = disk.folder / "lake"
    site.broker.start()
    site.start_ingest()
    device = site.device("a")
    device.start()
    accept(device, 0, 10)
    until(device.drained, "the lake has the first rows")
    ingest = site.figures()["pid"]

    disk.full()
    accept(device, 10, 10)
    until(lambda: "LAKE_DISK" in site.figures()["trouble"], "ingest says that the lake takes nothing")
    assert not device.drained()
    acked = next(iter(device.outbox.ledger().values())).acked_rows
    assert acked == 200, "no row is acknowledged that is not in the lake"
    assert said(site, "lake_holds")[0]["code"] == "LAKE_DISK"
    assert "free space under lake_dir" in said(site, "lake_holds")[0]["remedy"]
    parts = len(list(site.lake.rglob("*.parquet")))
    until(lambda: site.figures()["connected"], "it is still connected")

    disk.room()
    accept(device, 20, 1)
    until(device.drained, "every row is acknowledged once there is room")
    assert (site.figures()["pid"], site.figures()["trouble"]) == (ingest, ""), "the same process, without trouble"
    assert len(said(site, "lake_holds")) == len(said(site, "lake_goes_on")) == 1, "told once, not at each try"
    assert len(list(site.lake.rglob("*.parquet"))) <= parts + 3, "tries on a full disk left no half files behind"
    assert site.stop_ingest() == 0
    check_lake_equals_ledgers(site, device)
    assert device.alarms == []


def test_an_ingest_that_dies_on_a_full_lake_loses_and_doubles_nothing(site: SyncSite, disk: SmallDisk) -> None:
    site.lake = disk.folder / "lake"
    site.broker.start()
    site.start_ingest()
    device = site.device("a")
    device.start()
    accept(device, 0, 5)
    until(device.drained, "the lake has the first rows")
    disk.full()
    accept(device, 5, 5)
    until(lambda: "LAKE_DISK" in site.figures()["trouble"], "ingest says that the lake takes nothing")
    site.kill_ingest()
    site.start_ingest()
    until(lambda: "LAKE_DISK" in site.figures().get("trouble", ""), "a new one comes up, and holds too")
    disk.room()
    until(device.drained, "every row is acknowledged once there is room")
    assert site.stop_ingest() == 0
    check_lake_equals_ledgers(site, device)


def test_an_outbox_on_a_disk_that_gets_short_sheds_the_oldest_rows_and_says_so(site: SyncSite, disk: SmallDisk) -> None:
    device = site.device("a", {"live": 256 * MEGABYTE}, disk.folder, RESERVE_BYTES)
    accept(device, 0, 50)
    stream = device.outbox.streams()[0]
    disk.full(leave_bytes=RESERVE_BYTES - MEGABYTE)
    accept(device, 50, 50)
    entry = device.outbox.ledger()[stream]
    assert entry.accepted_rows == 2000
    assert entry.shed_rows > 0
    assert entry.shed_bytes > 0

    site.broker.start()
    site.start_ingest()
    device.start()
    until(device.drained, "rows and gaps are acknowledged, and freed, while the disk is still short")
    assert site.stop_ingest() == 0
    check_lake_equals_ledgers(site, device)
    account = site.audit()["streams"][stream]
    assert account["gap_rows"] == entry.shed_rows, "what was shed is a gap in the lake, with its count"
    assert account["bronze"] + account["gap_rows"] == 2000


def test_an_outbox_on_a_full_disk_refuses_rows_and_takes_them_again(site: SyncSite, disk: SmallDisk) -> None:
    site.broker.start()
    site.start_ingest()
    device = site.device("a", folder=disk.folder)
    accept(device, 0, 20)
    disk.full()
    with pytest.raises(LocalFaultError, match=r"OUTBOX_DISK: .*: database or disk is full"):
        accept(device, 20, 1000)  # what the database's own files have left is taken first
    assert device.outbox.trouble == "database or disk is full"
    before = device.outbox.ledger()
    device.start()
    until(lambda: bool(device.alarms), "the uplink says that nothing can be marked as sent")
    assert {alarm.code for alarm in device.alarms} == {"OUTBOX_DISK"}
    assert device.outbox.ledger() == before, "nothing half-written"
    disk.room()
    accept(device, 2000, 5)
    until(device.drained, "everything is acknowledged once there is room")
    assert device.outbox.trouble == ""
    assert site.stop_ingest() == 0
    check_lake_equals_ledgers(site, device)
