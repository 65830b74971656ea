"""The device's durable store-and-forward: SQLite, WAL, synchronous FULL, one writer. Safe to call from any thread.

    outbox = Outbox(path, device=..., boot_id=..., key=SigningKey, budgets={"live": 64 << 20}, clock=SystemClock())
    accepted = outbox.accept("live", feature_schema, bundle_digest, rows)  # durable when it returns; call it in a thread
    outbox.key = renewed                                                   # from now on batches are signed with this one
    outbox.ledger()                                                        # {stream: LedgerEntry}
    read_ledger(path)                                                      # the same from another process
    outbox.close()
The uplink takes what is to be sent and brings back the acks (sync/uplink/uplink.py); nobody else needs `take` and `acknowledge`.

Rules:
 1. One accepted call = one record = one sequence number = one transaction, together with its ledger line.
 2. The ledger (accepted rows, accepted seq, running hash) is never deleted. A lane's epoch is random and made with its ledger line.
 3. A lane never holds more bytes than its budget. To make room the oldest records that were never sent become one GAP record, which
    travels like rows and keeps the numbers dense. What was sent may be in the lake already, so it is never shed; when
    only such records are left, rows are refused (OUTBOX_FULL). The same when the disk has less than `reserve_bytes` left, whoever took
    the rest: an ack must be written before it can free anything, so the last bytes are not for rows.
 4. A record is marked as sent, durably, before it is handed out; so an ack beyond the mark is a lie even after a crash.
 5. Records are signed when they are taken: a key that was renewed while the device was offline does not strand its backlog.
 6. Only an ack whose running hash equals the ledger's frees a record.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.batch import LEDGER_START, MAX_BATCH_BYTES, MAX_BATCH_ROWS, Ack, AckedStream, BatchHeader
from contracts.canonical import CONTEXT_BATCH, SIGNATURE_BYTES
from contracts.errors import LocalFaultError, SkerryError, error
from contracts.features import FeatureSchema
from program.clock import Clock, SystemClock
from program.disk import database_as_it_is
from program.files import fsync_folder
from signatures.ed25519 import SigningKey
from sync import codec
from sync.uplink import outbox_tables as tables
from sync.uplink.outbox_tables import Record, StreamRow

BUDGET_REASON, DISK_REASON = "budget", "disk"
EPOCH_BYTES = 8


@dataclass(frozen=True)
class Accepted:
    """The batch is on disk. `shed_rows` older rows had to make room for it."""

    stream: str
    seq: int
    shed_rows: int = 0


@dataclass(frozen=True)
class Outgoing:
    """A signed record, ready to be published on its lane's topic. It stands for seq..last_seq."""

    stream: str
    lane: str
    seq: int
    last_seq: int
    rows: int
    message: bytes


@dataclass(frozen=True)
class LedgerEntry:
    """One stream's account. rows accepted = rows acked + rows pending; shed rows count as accepted and travel as gaps."""

    stream: str
    lane: str
    accepted_rows: int
    accepted_seq: int
    running_hash: str  # hex, after accepted_seq
    sent_seq: int
    acked_rows: int
    acked_seq: int
    shed_rows: int
    shed_bytes: int
    pending_bytes: int


class Outbox:
    """Raises LocalFaultError OUTBOX_DISK from every method when the disk does not take a write.

    Where it takes none at the start already, the ledger that is there is read; the first write that it takes opens the file for good.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str,
        boot_id: str,
        key: SigningKey,
        budgets: Mapping[str, int],
        clock: Clock | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        disk_limit_bytes: int | None = None,
        reserve_bytes: int = 0,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        """`budgets`: bytes per lane, as they would travel. `disk_limit_bytes` bounds the database file itself.

        `reserve_bytes`: what stays free of the disk; `free_bytes` says what is free, by default of the file system that `path` is on.
        """
        self.device, self.boot_id, self.key = device, boot_id, key
        self._budgets, self._clock, self._random_bytes = dict(budgets), clock or SystemClock(), random_bytes
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(path.parent).free)
        self.trouble = ""  # what the disk said to the last write, "" after one that it took
        self._lock, self._path, self._disk_limit_bytes = threading.Lock(), path, disk_limit_bytes
        self._frozen = False  # opened as it is, not for writing
        try:
            self._db = self._open()
        except LocalFaultError:
            if (found := database_as_it_is(path, tables.FORM)) is None:
                raise
            self._db, self._frozen = found, True

    def _open(self) -> sqlite3.Connection:
        try:
            db = tables.connect(self._path, self._disk_limit_bytes)
        except LocalFaultError as refused:
            self.trouble = refused.detail
            raise
        with self._committed(db):
            tables.create(db)
            for lane in self._budgets:
                self._open_stream(db, lane)
        fsync_folder(self._path.parent)  # the names of the database and of its log, too
        return db

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def accept(self, lane: str, schema: FeatureSchema, bundle_digest: str, rows: Sequence[Sequence[Any]]) -> Accepted:
        """Store `rows` (values in schema order) as one batch; it is durable when this returns.

        Raises RejectedError OUTBOX_SCHEMA or OUTBOX_TOO_LARGE, TransientError OUTBOX_FULL, LocalFaultError OUTBOX_DISK.
        """
        if lane not in self._budgets:
            raise error("OUTBOX_SCHEMA", lane, "no such lane")
        if len(rows) > MAX_BATCH_ROWS:
            raise error("OUTBOX_TOO_LARGE", lane, f"{len(rows)} rows, at most {MAX_BATCH_ROWS}")
        columns = codec.columns_of(schema, rows)
        body = codec.encode_body(schema, columns)
        with self._transaction():
            stream = self._stream_of(lane)
            record = self._rows_record(stream, schema, bundle_digest, columns, body)
            shed_rows = self._make_room(stream, record)
            tables.insert(self._db, record)
            tables.accept(self._db, record)
        return Accepted(stream.stream, record.seq, shed_rows)

    def streams(self) -> list[str]:
        """The open streams, in the order in which their lanes were given: the first one goes first."""
        with self._lock:
            return [self._stream_of(lane).stream for lane in self._budgets]

    def take(self, stream: str, after_seq: int, max_bytes: int) -> list[Outgoing]:
        """Signed records after `after_seq`, oldest first, of `max_bytes` together but at least one. Marked as sent, durably, first."""
        with self._transaction():
            records = tables.pending(self._db, stream, after_seq, max_bytes)
            if records:
                tables.mark_sent(self._db, stream, records[-1].last_seq)
        return [self._outgoing(record) for record in records]

    def acknowledge(self, ack: Ack) -> int:
        """Free what `ack` confirms; returns the rows that were freed. `ack` must have passed sync.uplink.ack.open_ack.

        Lower numbers and unknown streams are ignored. A stream that the ack is wrong about keeps everything, the others
        are served, then TrustError ACK_BEYOND_SENT or ACK_LEDGER_MISMATCH is raised.
        """
        if ack.device != self.device:
            raise error("ACK_DEVICE", ack.device)
        freed, refusals = 0, []
        with self._transaction():
            for stream, acked in sorted(ack.streams.items()):
                try:
                    freed += self._acknowledge(stream, acked)
                except SkerryError as refusal:
                    refusals.append(refusal)
        if refusals:
            raise refusals[0]
        return freed

    def watermarks(self) -> dict[str, int]:
        """stream -> highest acknowledged seq."""
        return {stream: entry.acked_seq for stream, entry in self.ledger().items()}

    def ledger(self) -> dict[str, LedgerEntry]:
        """Every stream that this outbox ever had."""
        with self._lock:
            return {row.stream: _entry(row) for row in tables.streams(self._db)}

    def durability(self) -> tuple[str, int]:
        """(journal mode, synchronous level) as SQLite has them: ("wal", 2) is the promise."""
        with self._lock:
            return (
                self._db.execute("PRAGMA journal_mode").fetchone()[0],
                self._db.execute("PRAGMA synchronous").fetchone()[0],
            )

    # -- in the order in which they are called

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._thaw()
            with self._committed(self._db):
                yield

    def _thaw(self) -> None:
        if self._frozen:
            db = self._open()
            self._db.close()
            self._db, self._frozen = db, False

    @contextmanager
    def _committed(self, db: sqlite3.Connection) -> Iterator[None]:
        try:
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("COMMIT")
            self.trouble = ""
        except sqlite3.Error as failed:
            _roll_back(db)
            self.trouble = str(failed)
            raise error("OUTBOX_DISK", self.device, str(failed)) from failed
        except BaseException:
            _roll_back(db)
            raise

    def _open_stream(self, db: sqlite3.Connection, lane: str) -> None:
        if tables.stream_of(db, self.device, lane) is None:
            epoch = self._random_bytes(EPOCH_BYTES).hex()
            tables.open_stream(db, self.device, lane, epoch, LEDGER_START)

    def _stream_of(self, lane: str) -> StreamRow:
        stream = tables.stream_of(self._db, self.device, lane)
        if stream is None:
            raise LookupError(lane)  # made at start, never deleted: somebody else wrote to the file
        return stream

    def _rows_record(self, stream: StreamRow, schema: FeatureSchema, bundle_digest: str, columns: codec.Columns, body: bytes) -> Record:
        after = codec.extend(stream.running_hash, codec.row_bytes(schema, columns))
        seq = stream.accepted_seq + 1
        record = Record(
            stream.stream, seq, seq, "rows", columns.length, schema.schema_id, bundle_digest, self._now_us(), self.boot_id,
            stream.running_hash, after, body,
        )  # fmt: skip
        sized = self._sized(record)
        if sized.size > MAX_BATCH_BYTES:
            raise error("OUTBOX_TOO_LARGE", stream.lane, f"{sized.size} bytes, at most {MAX_BATCH_BYTES}")
        return sized

    def _make_room(self, stream: StreamRow, record: Record) -> int:
        """Shed from the oldest unsent record on until `record` fits; returns the rows that were shed now."""
        excess, reason = self._excess(stream, record)
        if excess <= 0:
            return 0
        gap, shed_rows = self._gap(tables.unsent(self._db, stream.stream, stream.sent_seq), excess, reason)
        if gap is None:
            raise error("OUTBOX_FULL", stream.lane, f"{stream.pending_bytes} bytes wait for the lake's acknowledgement ({reason})")
        tables.replace(self._db, gap, shed_rows)
        return shed_rows

    def _excess(self, stream: StreamRow, record: Record) -> tuple[int, str]:
        """(bytes that must go before `record` may come, why)"""
        excess = stream.pending_bytes + record.size - self._budgets[stream.lane]
        if excess <= 0 and self._reserve_bytes and self._free_bytes() < self._reserve_bytes:
            return record.size, DISK_REASON
        return excess, BUDGET_REASON

    def _gap(self, unsent: Iterator[Record], excess: int, reason: str) -> tuple[Record | None, int]:
        """The GAP record that frees at least `excess` bytes and the rows that are newly in it; None when there is none such."""
        gap: Record | None = None
        held_bytes = shed_rows = 0
        for record in unsent:
            gap = self._sized(tables.merged(gap, record, reason))
            held_bytes += record.size
            shed_rows += record.rows if record.kind == "rows" else 0
            if held_bytes - gap.size >= excess:
                return gap, shed_rows
        return None, 0

    def _sized(self, record: Record) -> Record:
        size = len(codec.pack_header(self._header(record))) + len(record.body) + SIGNATURE_BYTES
        return tables.with_size(record, size)

    def _header(self, record: Record) -> BatchHeader:
        device, lane, epoch = record.stream.split("/")
        return BatchHeader(
            kind=record.kind, device=device, lane=lane, epoch=epoch, seq=record.seq, last_seq=record.last_seq, rows=record.rows,
            schema_id=record.schema_id, bundle_digest=record.bundle_digest, accepted_utc_us=record.accepted_utc_us,
            boot_id=record.boot_id, key_id=self.key.key_id, hash_before=record.hash_before, hash_after=record.hash_after,
            body_sha256=codec.body_digest(record.body), shed_bytes=record.shed_bytes, reason=record.reason,
        )  # fmt: skip

    def _outgoing(self, record: Record) -> Outgoing:
        signed = codec.pack_header(self._header(record))
        message = codec.frame(signed, record.body, self.key.sign(CONTEXT_BATCH, signed))
        return Outgoing(record.stream, record.stream.split("/")[1], record.seq, record.last_seq, record.rows, message)

    def _acknowledge(self, stream: str, acked: AckedStream) -> int:
        row = tables.stream(self._db, stream)
        if row is None or acked.seq < row.acked_seq:
            return 0
        if acked.seq > row.sent_seq:
            raise error("ACK_BEYOND_SENT", stream, f"{acked.seq}, sent {row.sent_seq}")
        known = row.acked_hash if acked.seq == row.acked_seq else tables.hash_after(self._db, stream, acked.seq)
        if known is None or known.hex() != acked.running_hash:
            raise error("ACK_LEDGER_MISMATCH", stream, f"at {acked.seq}")
        return tables.free(self._db, stream, acked.seq, known) if acked.seq > row.acked_seq else 0

    def _now_us(self) -> int:
        return int(self._clock.utc().timestamp() * 1_000_000)


def read_ledger(path: Path) -> dict[str, LedgerEntry]:
    """The ledger of an outbox that another process may have open. Raises LocalFaultError OUTBOX_DISK when it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return {row.stream: _entry(row) for row in tables.streams(db)}
    except sqlite3.Error as unreadable:
        raise error("OUTBOX_DISK", str(path), str(unreadable)) from unreadable


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:  # SQLite itself rolls back when the disk is full
        db.execute("ROLLBACK")


def _entry(row: StreamRow) -> LedgerEntry:
    return LedgerEntry(
        row.stream, row.lane, row.accepted_rows, row.accepted_seq, row.running_hash.hex(), row.sent_seq,
        row.acked_rows, row.acked_seq, row.shed_rows, row.shed_bytes, row.pending_bytes,
    )  # fmt: skip
