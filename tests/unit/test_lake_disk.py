"""A lake whose disk takes no writes: nothing is acknowledged, to nobody; it is tried again; what memory holds stays bounded."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError

from contracts import topics
from contracts.errors import SkerryError, error
from sync import mqtt
from sync.ingest.durability import LocalDisk
from sync.ingest.tables import DeltaLake, on_disk
from sync.ingest.worker import Limits
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.lake import SimulatedLake, Storage
from tests.simulators.row_path import DEVICE, DEVICE_KEY, DIGEST, SCHEMA, Ingest, believe, open_outbox, rows

LIMITS = Limits(seconds=1.0, retry_s=5.0)


class FullDisk:
    """Stands in `Storage.before_commit`."""

    def __init__(self) -> None:
        self.full, self.tries = True, 0

    def __call__(self, table: str) -> None:
        self.tries += 1
        if self.full:
            raise error("LAKE_DISK", table, "writing rows: No space left on device")


@pytest.fixture
def disk() -> FullDisk:
    return FullDisk()


@pytest.fixture
def ingest(tmp_path: Path, disk: FullDisk) -> Ingest:
    registry = SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    registry.learn(SCHEMA)
    return Ingest(SimulatedLake(Storage(before_commit=disk)), registry, tmp_path, LIMITS)


def test_nothing_is_acknowledged_before_the_disk_takes_it(tmp_path: Path, ingest: Ingest, disk: FullDisk) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    ingest.take(*outbox.take(stream, 0, 1 << 20))
    assert ingest.flush() == []
    assert ingest.mail.journal == [], "no ack to the device, and none to the broker"
    assert ingest.status.figures()["trouble"].startswith("LAKE_DISK")
    disk.full = False
    (ack,) = ingest.flush()
    assert believe(outbox, ack) == 5
    assert [what for what, _ in ingest.mail.journal] == ["publish", "puback"]
    assert ingest.status.figures()["trouble"] == ""
    assert ingest.flush() == [], "once"
    outbox.close()


def test_a_full_disk_is_tried_again_after_a_pause_and_not_at_each_step(tmp_path: Path, ingest: Ingest, disk: FullDisk) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    for number in range(3):
        stream = outbox.accept("live", SCHEMA, DIGEST, rows(number * 5, 5)).stream
    ingest.take(*outbox.take(stream, 0, 1 << 20))
    for _ in range(20):
        ingest.clock.advance(0.5)
        ingest.worker.step(0)
    assert 1 <= disk.tries <= 3
    disk.full = False
    ingest.clock.advance(LIMITS.retry_s)
    ingest.worker.step(0)
    (ack,) = ingest.mail.take(topics.ack(DEVICE))
    assert believe(outbox, ack) == 15
    outbox.close()


def test_a_new_connection_lets_what_is_held_go(tmp_path: Path, ingest: Ingest, disk: FullDisk) -> None:
    """The device sends it again; kept too, it would add up with each connection for as long as the disk is full."""
    outbox = open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    message = outbox.take(stream, 0, 1 << 20)[0].message
    for _ in range(3):
        ingest.receive(message)
        assert ingest.flush() == []
        ingest.mail.incoming.append(mqtt.Connected(20, None))
        ingest.worker.step(0)
    assert ingest.status.figures()["received_rows"] == 0
    disk.full = False
    ingest.receive(message)
    (ack,) = ingest.flush()
    assert believe(outbox, ack) == 5
    outbox.close()


def test_a_file_that_could_not_be_written_whole_is_taken_away_again(tmp_path: Path) -> None:
    """Real Delta tables; only fsync is the test's, and says once what a full disk says."""

    class FullOnce(LocalDisk):
        full = True

        def file(self, path: Path) -> None:
            if path.suffix == ".parquet" and self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().file(path)

    durability, registry = FullOnce(), SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    registry.learn(SCHEMA)
    (tmp_path / "lake").mkdir()
    ingest, outbox = Ingest(DeltaLake(tmp_path / "lake", durability), registry, tmp_path), open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    ingest.take(*outbox.take(stream, 0, 1 << 20))
    assert ingest.flush() == []
    assert ingest.status.figures()["trouble"] == "LAKE_DISK: bronze_digits: writing rows: No space left on device"
    assert list(tmp_path.rglob("*.parquet")) == []
    durability.full = False
    (ack,) = ingest.flush()
    assert believe(outbox, ack) == 5
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    outbox.close()


def test_what_delta_rs_says_in_words_is_understood() -> None:
    with (
        pytest.raises(SkerryError, match="LAKE_DISK: bronze_digits: committing: No space left on device"),
        on_disk("bronze_digits", "committing"),
    ):
        raise DeltaError("Generic LocalFileSystem error: unable to write: No space left on device (os error 28)")
    with pytest.raises(DeltaError, match="version 7"), on_disk("bronze_digits", "committing"):
        raise DeltaError("version 7 exists already")
