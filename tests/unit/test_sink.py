"""Exactly once, told as stories: what dies where, and what the lake holds afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts import topics
from contracts.batch import Ack
from contracts.canonical import CONTEXT_BATCH, unseal
from contracts.errors import SkerryError
from sync import codec
from sync.ingest.audit import StreamAccount, accounts
from sync.ingest.sink import Sink
from sync.ingest.worker import Limits
from sync.uplink.outbox import Outbox
from tests.simulators.clock import SimulatedClock
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.lake import ProcessDied, SimulatedLake, Storage
from tests.simulators.row_path import (
    DEVICE,
    DEVICE_KEY,
    DIGEST,
    SCHEMA,
    WIDE_SCHEMA,
    Ingest,
    believe,
    open_outbox,
    row,
    rows,
)  # fmt: skip


class Story:
    """One device, one lake, and ingest processes one after the other."""

    def __init__(self, folder: Path, budget_bytes: int = 1 << 20) -> None:
        self.folder, self.storage, self.registry = folder, Storage(), SimulatedRegistry()
        self.registry.know(DEVICE, DEVICE_KEY)
        self.registry.learn(SCHEMA)
        self.registry.learn(WIDE_SCHEMA)
        self.outbox: Outbox = open_outbox(folder / "outbox.db", {"live": budget_bytes})
        self.stream = self.outbox.streams()[0]
        self.ingest = self.start()

    def start(self, limits: Limits | None = None) -> Ingest:
        self.ingest = Ingest(SimulatedLake(self.storage), self.registry, self.folder, limits)
        return self.ingest

    def send_all(self) -> None:
        after = self.outbox.ledger()[self.stream].acked_seq
        self.ingest.take(*self.outbox.take(self.stream, after, 1 << 20))

    def account(self) -> StreamAccount:
        return accounts(self.storage.rows())[self.stream]

    def check_complete(self) -> None:
        """Everything is acknowledged, and the lake equals the ledger."""
        entry, account = self.outbox.ledger()[self.stream], self.account()
        assert entry.acked_seq == entry.accepted_seq
        assert account.faults == []
        assert (account.rows, account.running_hash, account.last_seq) == (entry.accepted_rows, entry.running_hash, entry.accepted_seq)

    def settle(self) -> None:
        self.send_all()
        for ack in self.ingest.flush():
            believe(self.outbox, ack)
        self.check_complete()


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def dies(story: Story, table: str, after: bool) -> None:
    def die(name: str) -> None:
        if name == table:
            raise ProcessDied

    setattr(story.storage, "after_commit" if after else "before_commit", die)
    with pytest.raises(ProcessDied):
        story.ingest.flush()
    story.storage.before_commit = story.storage.after_commit = lambda _: None
    story.start()


@pytest.mark.parametrize("table", ["bronze_digits", "quarantine"])
@pytest.mark.parametrize("after", [False, True])
def test_bad_rows_are_there_once_wherever_ingest_dies(story: Story, table: str, after: bool) -> None:
    """Quarantine is committed first, under its own id; between the two commits the process may die."""
    story.outbox.accept("live", SCHEMA, DIGEST, [row(0), row(1, bad=True), row(2)])
    story.outbox.accept("live", SCHEMA, DIGEST, [row(3), row(4), row(5, bad=True)])
    story.send_all()
    dies(story, table, after)
    story.settle()
    assert (story.account().bronze, story.account().quarantine) == (4, 2)


def test_a_bad_row_says_why_and_keeps_its_bytes(story: Story) -> None:
    story.outbox.accept("live", SCHEMA, DIGEST, [row(0), row(1, bad=True), [2, 2, 2, 11, float("nan")]])
    story.settle()
    bad = story.storage.rows()["quarantine"].to_pylist()
    assert [(each["idx"], each["code"], each["rows"]) for each in bad] == [(1, "INGEST_ROW_RANGE", 1), (2, "INGEST_ROW_RANGE", 1)]
    assert bad[0]["detail"] == "score = 7.5"
    assert len(bad[0]["raw"]) == 4 + 3 * 9 + 3 + 5


def test_a_batch_without_a_good_row_moves_the_watermark_in_quarantine(story: Story) -> None:
    story.outbox.accept("live", SCHEMA, DIGEST, [row(0, bad=True)])
    story.outbox.accept("live", SCHEMA, DIGEST, rows(1, 3))
    story.settle()
    assert (story.account().bronze, story.account().quarantine) == (3, 1)


def test_a_gap_counts_what_was_shed(tmp_path: Path) -> None:
    story = Story(tmp_path, budget_bytes=3_000)
    for i in range(40):
        story.outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5))
    story.settle()
    account = story.account()
    assert account.gap_rows == story.outbox.ledger()[story.stream].shed_rows > 0
    assert account.bronze + account.gap_rows == 200


def test_one_stream_may_change_its_family(story: Story) -> None:
    for i in range(6):
        wide = i % 2 == 1
        story.outbox.accept("live", WIDE_SCHEMA if wide else SCHEMA, DIGEST, [row(i) + (["note"] if wide else [])])
    story.send_all()
    dies(story, "bronze_wide", after=True)
    story.settle()
    assert {name: table.num_rows for name, table in story.storage.rows().items()} == {
        "bronze_digits": 3, "bronze_wide": 3, "quarantine": 0, "gaps": 0,
    }  # fmt: skip


def test_a_second_ingest_with_the_same_rows_adds_nothing(story: Story) -> None:
    """A process that was paused while another took over: its snapshot is stale, its commit fails, the table tells it."""
    story.outbox.accept("live", SCHEMA, DIGEST, rows(0, 5))
    paused = story.ingest
    story.send_all()
    story.start()
    story.settle()
    assert len(paused.flush()) == 1  # awake again: it commits nothing and says what is true
    story.check_complete()
    assert story.account().bronze == 5


def test_duplicates_and_disorder_inside_one_flush(story: Story) -> None:
    for i in range(5):
        story.outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5))
    records = story.outbox.take(story.stream, 0, 1 << 20)
    story.ingest.take(*reversed(records), *records, records[2])
    assert len(story.ingest.flush()) == 1
    assert story.account().rows == 25


def test_what_comes_too_early_waits_and_is_bounded(story: Story) -> None:
    for i in range(4):
        story.outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5))
    first, second, third, fourth = story.outbox.take(story.stream, 0, 1 << 20)
    story.start(Limits(parked_bytes=len(third.message) + 10))
    story.ingest.take(fourth, third)
    assert story.ingest.flush() == []  # nothing to acknowledge
    assert (len(story.ingest.worker.parked), story.ingest.worker.parked[0].seq) == (1, 3)
    story.ingest.take(second, first)
    story.ingest.flush()
    assert story.account().last_seq == 3
    story.settle()


def test_the_chain_is_restored_after_a_restart(story: Story) -> None:
    story.outbox.accept("live", SCHEMA, DIGEST, rows(0, 5))
    story.settle()
    story.start()
    assert story.ingest.sink.positions(DEVICE)[story.stream].running_hash.hex() == story.outbox.ledger()[story.stream].running_hash
    story.outbox.accept("live", SCHEMA, DIGEST, rows(5, 5))
    story.settle()
    assert story.account().quarantine == 0


def test_a_lake_whose_history_is_gone_is_not_written_to(story: Story) -> None:
    story.outbox.accept("live", SCHEMA, DIGEST, rows(0, 5))
    story.settle()
    story.storage.commits["gaps"].append(type(story.storage.commits["bronze_digits"][0])(None, {f"s/{story.stream}": 7}))
    with pytest.raises(SkerryError, match="LAKE_HISTORY"):
        Sink(SimulatedLake(story.storage), SimulatedClock())


def test_a_device_that_breaks_its_chain_is_quarantined_and_goes_on(story: Story) -> None:
    """As a copied disk would: valid signature, valid rows, another past."""
    story.outbox.accept("live", SCHEMA, DIGEST, rows(0, 5))
    story.settle()
    story.outbox.accept("live", SCHEMA, DIGEST, rows(5, 5))
    frame = codec.parse(story.outbox.take(story.stream, 1, 1)[0].message)
    other_past = bytes([7]) * 32
    columns = codec.columns_of(SCHEMA, rows(5, 5))
    after = codec.extend(other_past, codec.row_bytes(SCHEMA, columns))
    signed = codec.pack_header(frame.header.model_copy(update={"hash_before": other_past, "hash_after": after}))
    story.ingest.receive(codec.frame(signed, frame.body, DEVICE_KEY.sign(CONTEXT_BATCH, signed)))
    payload, _ = unseal(story.ingest.flush()[0])
    assert Ack.model_validate_json(payload).streams[story.stream].running_hash == after.hex()
    kept = story.storage.rows()["quarantine"].to_pylist()[0]
    assert (kept["idx"], kept["code"], kept["rows"]) == (-1, "INGEST_LEDGER", 5)


def test_a_gap_over_committed_numbers_is_refused(story: Story) -> None:
    story.outbox.accept("live", SCHEMA, DIGEST, rows(0, 5))
    story.settle()
    story.outbox.accept("live", SCHEMA, DIGEST, rows(5, 5))
    frame = codec.parse(story.outbox.take(story.stream, 1, 1)[0].message)
    empty = codec.body_digest(b"")
    lie = frame.header.model_copy(update={"kind": "gap", "seq": 1, "last_seq": 2, "schema_id": "", "body_sha256": empty})
    signed = codec.pack_header(lie)
    story.ingest.receive(codec.frame(signed, b"", DEVICE_KEY.sign(CONTEXT_BATCH, signed)))
    assert story.ingest.flush() == []
    assert len(story.ingest.mail.take(topics.nack(DEVICE))) == 1
    story.settle()


def test_an_unknown_schema_holds_the_stream_without_losing_it(story: Story) -> None:
    del story.registry.schemas[SCHEMA.schema_id]
    story.outbox.accept("live", SCHEMA, DIGEST, rows(0, 5))
    story.send_all()
    assert story.ingest.flush() == []
    assert story.ingest.status.held == 1
    assert story.ingest.mail.journal[-1] == ("puback", "1")  # the broker keeps nothing; the device does
    story.registry.learn(SCHEMA)
    story.settle()


def test_a_family_whose_table_differs_is_held_while_others_go_on(story: Story) -> None:
    other = SCHEMA.model_copy(update={"columns": SCHEMA.columns[:-1]})
    story.registry.learn(other)
    story.outbox.accept("live", SCHEMA, DIGEST, rows(0, 5))
    story.settle()
    story.outbox.accept("live", other, DIGEST, [each[:-1] for each in rows(5, 5)])
    story.send_all()
    assert story.ingest.flush() == []
    assert story.ingest.status.held == 1
