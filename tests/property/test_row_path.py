"""The row path against a simple model: whatever crashes, is lost, repeated, reordered or forged, the lake has each accepted row once.

Real: outbox (SQLite), codec, signatures, intake, sink, worker. The wire is two lists that hypothesis plays with; the lake is
simulated (its contract suite runs over Delta too). The model: what `accept` has promised.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from contracts.errors import SkerryError, TransientError
from sync.ingest.audit import accounts
from sync.ingest.sink import Sink
from sync.uplink.outbox import Outgoing
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.lake import ProcessDied, SimulatedLake, Storage
from tests.simulators.row_path import (
    DEVICE,
    DEVICE_KEY,
    DIGEST,
    OTHER_DEVICE,
    SCHEMA,
    STRANGER_KEY,
    WIDE_SCHEMA,
    Ingest,
    believe,
    open_outbox,
    row,
    signed_ack,
)

BUDGET_BYTES = 6_000  # some seven small batches: shedding is common
NUMBER = st.integers(0, 1_000)
BLOWS = (
    "send", "send", "go_back", "device_dies", "deliver", "deliver", "lose", "flip_a_bit", "deliver_ack", "deliver_ack", "lose_acks",
    "replay_ack", "forge_ack", "all_arrives", "all_arrives", "flush", "flush", "dies_in_a_commit", "restart_ingest", "another_commits",
)  # fmt: skip


class RowPath(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")  # SQLite's transactions are under test here, its fsync is not
        self.folder = Path(tempfile.mkdtemp(prefix="skerry-row-path-", dir=memory if memory.is_dir() else None))
        self.registry = SimulatedRegistry()
        self.registry.know(DEVICE, DEVICE_KEY)
        for schema in (SCHEMA, WIDE_SCHEMA):
            self.registry.learn(schema)
        self.storage = Storage()
        self.promised = 0  # rows that `accept` returned for
        self.upward: list[Outgoing] = []
        self.downward: list[bytes] = []
        self.old_acks: list[bytes] = []

    @initialize()
    def power_on(self) -> None:
        self.outbox = open_outbox(self.folder / "outbox.db", {"live": BUDGET_BYTES}, random_bytes=lambda count: bytes(range(count)))
        self.stream = self.outbox.streams()[0]
        self.cursor = 0
        self.restart_ingest()

    @rule(batches=st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), min_size=1, max_size=8))
    def accept(self, batches: list[tuple[int, bool, bool]]) -> None:
        for count, bad, wide in batches:
            rows = [row(self.promised + i, bad and i % 2 == 0) + (["a note"] if wide else []) for i in range(count)]
            with suppress(TransientError):  # OUTBOX_FULL: everything that is left was sent
                self.outbox.accept("live", WIDE_SCHEMA if wide else SCHEMA, DIGEST, rows)
                self.promised += count

    @rule(blows=st.lists(st.tuples(st.sampled_from(BLOWS), NUMBER), min_size=2, max_size=8))
    def weather(self, blows: list[tuple[str, int]]) -> None:
        for blow, number in blows:
            getattr(self, blow)(number)
            self.check_bound()
            self.check_nothing_twice()

    # -- what befalls the device

    def send(self, number: int) -> None:
        records = self.outbox.take(self.stream, self.cursor, (1, 2_000, 100_000)[number % 3])
        self.upward += records
        self.cursor = records[-1].last_seq if records else self.cursor

    def go_back(self, _number: int) -> None:
        self.cursor = self.outbox.ledger()[self.stream].acked_seq

    def device_dies(self, number: int) -> None:
        self.outbox.close()
        self.outbox = open_outbox(self.folder / "outbox.db", {"live": BUDGET_BYTES}, boot_id="boot-2")
        assert self.outbox.streams() == [self.stream]
        self.go_back(number)

    # -- what befalls the wire

    def deliver(self, number: int) -> None:
        """Any of what is under way, and it stays under way: out of order, and perhaps again."""
        if self.upward:
            self.ingest.take(self.upward[number % len(self.upward)])

    def lose(self, number: int) -> None:
        if self.upward:
            del self.upward[number % len(self.upward)]

    def flip_a_bit(self, number: int) -> None:
        """Refused or held, never committed."""
        if not self.upward:
            return
        forged = bytearray(self.upward[number % len(self.upward)].message)
        forged[number % len(forged)] ^= 1
        before = self.ingest.status.refused + self.ingest.status.held
        self.ingest.receive(bytes(forged))
        assert self.ingest.status.refused + self.ingest.status.held == before + 1

    def deliver_ack(self, number: int) -> None:
        if self.downward:
            ack = self.downward[number % len(self.downward)]
            believe(self.outbox, ack)
            self.old_acks.append(ack)

    def lose_acks(self, _number: int) -> None:
        self.downward.clear()

    def replay_ack(self, number: int) -> None:
        if self.old_acks:
            assert believe(self.outbox, self.old_acks[number % len(self.old_acks)]) == 0

    def forge_ack(self, number: int) -> None:
        """Refused with its code, and it frees nothing."""
        entry = self.outbox.ledger()[self.stream]
        forged, code = [
            (signed_ack({self.stream: (entry.sent_seq, entry.running_hash)}, STRANGER_KEY), "ACK_SIGNATURE"),
            (signed_ack({self.stream: (entry.sent_seq, entry.running_hash)}, device=OTHER_DEVICE), "ACK_DEVICE"),
            (signed_ack({self.stream: (entry.sent_seq + 1, entry.running_hash)}), "ACK_BEYOND_SENT"),
            (signed_ack({self.stream: (entry.sent_seq, "0" * 63 + "1")}), "ACK_LEDGER_MISMATCH"),
        ][number % 4]
        with pytest.raises(SkerryError) as refusal:
            believe(self.outbox, forged)
        assert refusal.value.code == code
        assert self.outbox.ledger()[self.stream] == entry

    # -- what befalls ingest

    def all_arrives(self, number: int) -> None:
        self.go_back(number)
        self.send(2)
        self.ingest.take(*self.upward)
        self.upward.clear()

    def flush(self, _number: int) -> None:
        self.downward += self.ingest.flush()

    def dies_in_a_commit(self, number: int) -> None:
        """Also between the two commits of a batch with good and bad rows. What ingest had in memory is gone."""
        table, after = ("bronze_digits", "bronze_wide", "quarantine", "gaps")[number % 4], number % 8 > 3

        def die(name: str) -> None:
            if name == table:
                raise ProcessDied

        setattr(self.storage, "after_commit" if after else "before_commit", die)
        try:
            self.flush(number)
        except ProcessDied:
            self.restart_ingest()
        finally:
            self.storage.before_commit = self.storage.after_commit = lambda _: None

    def restart_ingest(self, _number: int = 0) -> None:
        self.ingest = Ingest(SimulatedLake(self.storage), self.registry, self.folder)

    def another_commits(self, number: int) -> None:
        """A second ingest on the same lake, as after a lapsed lease: the first one's snapshot is stale from now on."""
        other = Ingest(SimulatedLake(self.storage), self.registry, self.folder)
        other.take(*self.upward[: number % (1 + len(self.upward))])
        self.downward += other.flush()

    # -- what must hold

    def check_bound(self) -> None:
        assert self.outbox.ledger()[self.stream].pending_bytes <= BUDGET_BYTES

    def check_nothing_twice(self) -> None:
        """At every moment, also between the two commits of a batch with good and bad rows."""
        found = self.storage.rows()
        rows = [row for name in found if name != "gaps" for row in zip(*(found[name].column(c).to_pylist() for c in ("seq", "idx")))]
        assert len(rows) == len(set(rows))
        assert set(found["quarantine"].column("code").to_pylist()) <= {"INGEST_ROW_RANGE"}
        assert len(rows) + sum(found["gaps"].column("rows").to_pylist()) <= self.promised

    def teardown(self) -> None:
        """The storm is over: everything that was promised arrives, by count and by hash."""
        try:
            self.drain()
        finally:
            self.outbox.close()
            shutil.rmtree(self.folder)

    def drain(self) -> None:
        for _ in range(50):
            if self.outbox.ledger()[self.stream].acked_seq == self.outbox.ledger()[self.stream].accepted_seq:
                break
            self.all_arrives(0)
            for ack in self.ingest.flush():
                believe(self.outbox, ack)
        entry = self.outbox.ledger()[self.stream]
        assert (entry.acked_seq, entry.acked_rows, entry.pending_bytes) == (entry.accepted_seq, entry.accepted_rows, 0)
        assert entry.accepted_rows == self.promised
        if not entry.accepted_seq:
            return
        found = accounts(self.storage.rows())[self.stream]
        assert found.faults == []
        assert (found.rows, found.running_hash, found.last_seq) == (entry.accepted_rows, entry.running_hash, entry.accepted_seq)
        restored = Sink(SimulatedLake(self.storage), self.ingest.clock).positions(DEVICE)[self.stream]
        assert restored.running_hash.hex() == entry.running_hash


RowPath.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestRowPath = RowPath.TestCase
