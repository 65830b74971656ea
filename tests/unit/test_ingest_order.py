"""Nothing is acknowledged before it is in the table and on disk: the order of fsync, commit, ack and PUBACK, on real Delta tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts import topics
from program.files import fsync_file, fsync_folder
from sync.ingest.audit import audit
from sync.ingest.durability import LocalDisk
from sync.ingest.tables import LOG, DeltaLake
from sync.ingest.worker import Limits
from sync.uplink.outbox import Outbox
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.row_path import DEVICE, DEVICE_KEY, DIGEST, SCHEMA, Ingest, open_outbox, row, rows


def recorded_disk(journal: list[tuple[str, str]], root: Path) -> LocalDisk:
    """Really syncs, and writes it into the one journal in which acks and PUBACKs stand too."""

    def recorded(sync: Callable[[Path], None]) -> Callable[[Path], None]:
        def call(path: Path) -> None:
            sync(path)
            journal.append(("fsync", str(path.relative_to(root))))

        return call

    return LocalDisk(recorded(fsync_file), recorded(fsync_folder))


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = open_outbox(tmp_path / "outbox.db")
    yield outbox
    outbox.close()


@pytest.fixture
def lake_dir(tmp_path: Path) -> Path:
    (tmp_path / "lake").mkdir()
    return tmp_path / "lake"


def start(lake_dir: Path, limits: Limits | None = None) -> tuple[Ingest, list[tuple[str, str]]]:
    registry = SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    registry.learn(SCHEMA)
    journal: list[tuple[str, str]] = []
    ingest = Ingest(DeltaLake(lake_dir, recorded_disk(journal, lake_dir)), registry, lake_dir.parent, limits)
    ingest.mail.journal = journal
    return ingest, journal


def synced(journal: list[tuple[str, str]]) -> set[str]:
    return {name for what, name in journal if what == "fsync"}


def files_of(lake_dir: Path) -> set[str]:
    return {str(path.relative_to(lake_dir)) for path in lake_dir.rglob("*") if path.suffix in (".parquet", ".json")}


def test_every_file_and_folder_is_synced_before_the_ack(outbox: Outbox, lake_dir: Path) -> None:
    ingest, journal = start(lake_dir)
    stream = outbox.accept("live", SCHEMA, DIGEST, [row(0), row(1, bad=True), row(2)]).stream
    ingest.take(*outbox.take(stream, 0, 1))
    ingest.flush()
    acked = journal.index(("publish", topics.ack(DEVICE)))
    before = synced(journal[:acked])
    assert files_of(lake_dir) <= before
    folders = {str(Path(name).parent) for name in files_of(lake_dir)} | {"bronze_digits", "quarantine", "gaps", "."}
    assert folders <= before


def test_the_data_file_is_synced_before_the_log_names_it(outbox: Outbox, lake_dir: Path) -> None:
    ingest, journal = start(lake_dir)
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    ingest.take(*outbox.take(stream, 0, 1))
    ingest.flush()
    names = [name for what, name in journal if what == "fsync" and name.startswith("bronze_digits")]
    part = next(i for i, name in enumerate(names) if name.endswith(".parquet"))
    entry = names.index(f"bronze_digits/{LOG}/{1:020d}.json")
    assert part < entry


def test_the_ack_comes_after_the_commit_and_the_broker_last(outbox: Outbox, lake_dir: Path) -> None:
    ingest, journal = start(lake_dir)
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    ingest.take(*outbox.take(stream, 0, 1))
    assert [each for each in journal if each[0] != "fsync"] == []  # received, nothing said
    ingest.flush()
    assert [each for each in journal if each[0] != "fsync"] == [("publish", topics.ack(DEVICE)), ("puback", "1")]
    entry = ("fsync", f"bronze_digits/{LOG}/{1:020d}.json")
    assert journal.index(entry) < journal.index(("publish", topics.ack(DEVICE)))


def test_a_commit_that_a_killed_process_left_unsynced_is_synced_before_it_is_acked(outbox: Outbox, lake_dir: Path) -> None:
    """The page cache survives SIGKILL, a power cut does not: what was found in the log is made durable first."""
    ingest, _ = start(lake_dir)
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    sent = outbox.take(stream, 0, 1)
    ingest.take(*sent)
    ingest.flush()
    again, journal = start(lake_dir)
    assert f"bronze_digits/{LOG}/{1:020d}.json" in synced(journal)
    again.take(*sent)
    assert len(again.flush()) == 1
    assert audit(lake_dir).streams[stream].rows == 5


@pytest.mark.parametrize(("credit_in_batches", "acks"), [(2, 1), (3, 0)])
def test_a_device_that_has_used_half_its_credit_is_acknowledged_at_once(
    outbox: Outbox, lake_dir: Path, credit_in_batches: int, acks: int
) -> None:
    """Else it would stand still, with its credit used up, until the time for a flush has come."""
    (record,) = outbox.take(outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream, 0, 1)
    ingest, _ = start(lake_dir, Limits(credit_bytes=credit_in_batches * len(record.message)))
    ingest.take(record)
    assert len(ingest.mail.take(topics.ack(DEVICE))) == acks


def test_half_of_the_brokers_window_is_committed_at_once(outbox: Outbox, lake_dir: Path) -> None:
    """Many devices with little to say each: else the broker would stand still, with its window used up."""
    stream, _ = (outbox.accept("live", SCHEMA, DIGEST, rows(first, 1)).stream for first in range(2))
    records = outbox.take(stream, 0, 1 << 20)
    ingest, _ = start(lake_dir, Limits(messages=2))
    acks = []
    for record in records:
        ingest.take(record)
        acks.append(len(ingest.mail.take(topics.ack(DEVICE))))
    assert acks == [0, 1]


def test_rows_that_are_not_fit_are_counted_for_their_stream(lake_dir: Path, tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "two.db", {"windows": 1 << 20, "live": 1 << 20})
    ingest, _ = start(lake_dir)
    windows = outbox.accept("windows", SCHEMA, DIGEST, [row(0), row(1, bad=True), row(2, bad=True)]).stream
    live = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    ingest.take(*outbox.take(windows, 0, 1 << 20), *outbox.take(live, 0, 1 << 20))
    ingest.flush()
    figures = ingest.status.figures()
    assert (figures["quarantined_rows"], figures["committed_rows"]) == (2, 8)
    assert {name: stream["quarantined_rows"] for name, stream in figures["streams"].items()} == {windows: 2, live: 0}
    outbox.close()
