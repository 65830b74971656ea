"""The two tables of outbox.db and the statements on them. No decision is made here; sync/uplink/outbox.py holds the rules.

`stream` is the ledger: one line per lane and epoch, never deleted. `record` is what waits: rows, or a gap over seq..last_seq.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Literal

from contracts.errors import error
from contracts.ids import stream_id

FORM = 1  # PRAGMA user_version
PAGE_BYTES = 4096
BUSY_TIMEOUT_S = 5.0

_CREATE = """
CREATE TABLE IF NOT EXISTS stream (
    stream TEXT PRIMARY KEY, device TEXT NOT NULL, lane TEXT NOT NULL, epoch TEXT NOT NULL,
    accepted_rows INTEGER NOT NULL DEFAULT 0, accepted_seq INTEGER NOT NULL DEFAULT 0, running_hash BLOB NOT NULL,
    sent_seq INTEGER NOT NULL DEFAULT 0,
    acked_rows INTEGER NOT NULL DEFAULT 0, acked_seq INTEGER NOT NULL DEFAULT 0, acked_hash BLOB NOT NULL,
    shed_rows INTEGER NOT NULL DEFAULT 0, shed_bytes INTEGER NOT NULL DEFAULT 0, pending_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (device, lane)
);
CREATE TABLE IF NOT EXISTS record (
    stream TEXT NOT NULL, seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, kind TEXT NOT NULL, rows INTEGER NOT NULL,
    schema_id TEXT NOT NULL, bundle_digest TEXT NOT NULL, accepted_utc_us INTEGER NOT NULL, boot_id TEXT NOT NULL,
    hash_before BLOB NOT NULL, hash_after BLOB NOT NULL, body BLOB NOT NULL,
    shed_bytes INTEGER NOT NULL, reason TEXT NOT NULL, size INTEGER NOT NULL,
    UNIQUE (stream, seq)
);
"""


@dataclass(frozen=True)
class StreamRow:
    stream: str
    lane: str
    accepted_rows: int
    accepted_seq: int
    running_hash: bytes
    sent_seq: int
    acked_rows: int
    acked_seq: int
    acked_hash: bytes
    shed_rows: int
    shed_bytes: int
    pending_bytes: int


@dataclass(frozen=True)
class Record:
    stream: str
    seq: int
    last_seq: int
    kind: Literal["rows", "gap"]
    rows: int
    schema_id: str
    bundle_digest: str
    accepted_utc_us: int
    boot_id: str
    hash_before: bytes
    hash_after: bytes
    body: bytes
    shed_bytes: int = 0
    reason: str = ""
    size: int = 0  # bytes on the wire


_STREAM = ", ".join(StreamRow.__dataclass_fields__)
_RECORD = ", ".join(Record.__dataclass_fields__)


def connect(path: Path, disk_limit_bytes: int | None) -> sqlite3.Connection:
    """Raises LocalFaultError OUTBOX_DISK when the file cannot be opened or is of another form."""
    try:
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db.execute(f"PRAGMA page_size={PAGE_BYTES}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")  # a commit is one fsync; NORMAL would lose the last ones in a power cut
        db.execute("PRAGMA cache_size=-512")  # kB: batches are read in order and once, a larger cache only weighs
        if disk_limit_bytes is not None:
            db.execute(f"PRAGMA max_page_count={max(1, disk_limit_bytes // PAGE_BYTES)}")
        form = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as unusable:
        raise error("OUTBOX_DISK", str(path), str(unusable)) from unusable
    if form not in (0, FORM):
        db.close()
        raise error("OUTBOX_DISK", str(path), f"is of form {form}, this agent reads {FORM}")
    return db


def create(db: sqlite3.Connection) -> None:
    """Inside a transaction; executescript() would commit it. Writes nothing where all is there: the disk may be full."""
    if db.execute("PRAGMA user_version").fetchone()[0] == FORM:
        return
    for statement in _CREATE.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version={FORM}")


def open_stream(db: sqlite3.Connection, device: str, lane: str, epoch: str, start: bytes) -> None:
    db.execute(
        "INSERT INTO stream (stream, device, lane, epoch, running_hash, acked_hash) VALUES (?, ?, ?, ?, ?, ?)",
        (stream_id(device, lane, epoch), device, lane, epoch, start, start),
    )


def stream_of(db: sqlite3.Connection, device: str, lane: str) -> StreamRow | None:
    return next(_streams(db, "WHERE device = ? AND lane = ?", device, lane), None)


def stream(db: sqlite3.Connection, name: str) -> StreamRow | None:
    return next(_streams(db, "WHERE stream = ?", name), None)


def streams(db: sqlite3.Connection) -> list[StreamRow]:
    return list(_streams(db, "ORDER BY rowid"))


def _streams(db: sqlite3.Connection, condition: str, *values: str) -> Iterator[StreamRow]:
    return (StreamRow(*row) for row in db.execute(f"SELECT {_STREAM} FROM stream {condition}", values))  # noqa: S608 (no outside text)


def insert(db: sqlite3.Connection, record: Record) -> None:
    values = tuple(getattr(record, name) for name in Record.__dataclass_fields__)
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT INTO record ({_RECORD}) VALUES ({marks})", values)  # noqa: S608 (no outside text)
    db.execute("UPDATE stream SET pending_bytes = pending_bytes + ? WHERE stream = ?", (record.size, record.stream))


def accept(db: sqlite3.Connection, record: Record) -> None:
    """The ledger line of `record`."""
    db.execute(
        "UPDATE stream SET accepted_rows = accepted_rows + ?, accepted_seq = ?, running_hash = ? WHERE stream = ?",
        (record.rows, record.seq, record.hash_after, record.stream),
    )


def unsent(db: sqlite3.Connection, stream: str, sent_seq: int) -> Iterator[Record]:
    """Oldest first, without their bodies: only sizes are looked at."""
    columns = _RECORD.replace(" body,", " x'',")
    query = f"SELECT {columns} FROM record WHERE stream = ? AND seq > ? ORDER BY seq"  # noqa: S608 (no outside text)
    return (Record(*row) for row in db.execute(query, (stream, sent_seq)))


def merged(gap: Record | None, record: Record, reason: str) -> Record:
    """`gap` widened by `record`, which follows it; a first record becomes a gap by itself."""
    shed_bytes = record.shed_bytes if record.kind == "gap" else record.size
    if gap is None:
        return changed(record, kind="gap", schema_id="", bundle_digest="", body=b"", shed_bytes=shed_bytes, reason=reason)
    return changed(
        gap, last_seq=record.last_seq, rows=gap.rows + record.rows, hash_after=record.hash_after, shed_bytes=gap.shed_bytes + shed_bytes
    )


def with_size(record: Record, size: int) -> Record:
    return changed(record, size=size)


def replace(db: sqlite3.Connection, gap: Record, shed_rows: int) -> None:
    """`gap` in the place of all records that it stands for."""
    in_gap = (gap.stream, gap.seq, gap.last_seq)
    freed, counted = db.execute(
        "SELECT SUM(size), SUM(CASE kind WHEN 'gap' THEN shed_bytes ELSE 0 END) FROM record WHERE stream = ? AND seq BETWEEN ? AND ?",
        in_gap,
    ).fetchone()
    db.execute("DELETE FROM record WHERE stream = ? AND seq BETWEEN ? AND ?", in_gap)
    db.execute(
        "UPDATE stream SET pending_bytes = pending_bytes - ?, shed_rows = shed_rows + ?, shed_bytes = shed_bytes + ? WHERE stream = ?",
        (freed, shed_rows, gap.shed_bytes - counted, gap.stream),
    )
    insert(db, gap)


def pending(db: sqlite3.Connection, stream: str, after_seq: int, max_bytes: int) -> list[Record]:
    query = f"SELECT {_RECORD} FROM record WHERE stream = ? AND seq > ? ORDER BY seq"  # noqa: S608 (no outside text)
    found: list[Record] = []
    held_bytes = 0
    for row in db.execute(query, (stream, after_seq)):
        record = Record(*row)
        held_bytes += record.size
        if found and held_bytes > max_bytes:
            break
        found.append(record)
    return found


def mark_sent(db: sqlite3.Connection, stream: str, last_seq: int) -> None:
    db.execute("UPDATE stream SET sent_seq = ? WHERE stream = ? AND sent_seq < ?", (last_seq, stream, last_seq))


def hash_after(db: sqlite3.Connection, stream: str, last_seq: int) -> bytes | None:
    row = db.execute("SELECT hash_after FROM record WHERE stream = ? AND last_seq = ?", (stream, last_seq)).fetchone()
    return None if row is None else bytes(row[0])


def free(db: sqlite3.Connection, stream: str, through_seq: int, acked_hash: bytes) -> int:
    """Delete what is acknowledged and note the new watermark; returns the rows."""
    done = (stream, through_seq)
    rows, size = db.execute("SELECT SUM(rows), SUM(size) FROM record WHERE stream = ? AND last_seq <= ?", done).fetchone()
    db.execute("DELETE FROM record WHERE stream = ? AND last_seq <= ?", done)
    db.execute(
        "UPDATE stream SET acked_seq = ?, acked_hash = ?, acked_rows = acked_rows + ?, pending_bytes = pending_bytes - ? WHERE stream = ?",
        (through_seq, acked_hash, rows, size, stream),
    )
    return int(rows)
