"""agent.db: update record, floors, reports and journal. SQLite with synchronous FULL: a call that returned is on the disk.

One connection behind one lock: the update loop writes from the event loop's thread, the TUF client from another.
A disk that takes no writes is LocalFaultError SETUP_STATE_DISK from each method that writes: then nothing of the call has happened.
Where it takes none at the start already, what is there is read, and the first write that it takes opens the file for good.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contracts.errors import LocalFaultError, error
from edge_agent.core.floors import Floors, with_epoch, with_versions
from edge_agent.core.record import Record, from_json, to_json
from edge_agent.ports import Draft, PendingReport
from program.disk import database_as_it_is

SCHEMA = 1
JOURNAL_ROWS = 2000  # newest entries kept

_TABLES = """
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS report_heads (execution TEXT PRIMARY KEY, last_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (
    n INTEGER PRIMARY KEY AUTOINCREMENT, execution TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (execution, seq));
CREATE TABLE IF NOT EXISTS journal (n INTEGER PRIMARY KEY AUTOINCREMENT, utc_s REAL NOT NULL, event TEXT NOT NULL, fields TEXT NOT NULL);
"""


class AgentDb:
    def __init__(self, path: Path) -> None:
        self._lock, self._path = threading.Lock(), path
        self.trouble = ""  # what the disk said to the last write, "" after one that it took
        self._frozen = False  # opened as it is, not for writing
        try:
            self._db = self._open()
        except LocalFaultError:
            if (found := database_as_it_is(path, SCHEMA)) is None:
                raise
            self._db, self._frozen = found, True

    def _open(self) -> sqlite3.Connection:
        with self._on_disk("opening it"):
            db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -256")  # kB; the database is small, and so is the agent
            self._create(db)
            return db

    def _create(self, db: sqlite3.Connection) -> None:
        """Writes nothing where everything is there."""
        form = db.execute("PRAGMA user_version").fetchone()[0]
        if form == SCHEMA:
            return
        if form != 0:
            raise ValueError(f"{self._path} was written by a newer agent")
        db.executescript(_TABLES)
        db.execute(f"PRAGMA user_version = {SCHEMA}")
        self._path.chmod(0o600)

    def _thaw(self) -> None:
        if self._frozen:
            db = self._open()
            self._db.close()
            self._db, self._frozen = db, False

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _on_disk(self, phase: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as failed:
            self.trouble = f"{phase}: {failed}"
            raise error("SETUP_STATE_DISK", str(self._path), self.trouble) from failed
        self.trouble = ""

    @contextmanager
    def _transaction(self, phase: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._on_disk(phase):
            self._thaw()
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def _read(self, key: str) -> str | None:
        with self._lock:
            row = self._db.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    # -- record

    def record(self) -> Record:
        text = self._read("record")
        return from_json(text) if text else Record()

    def save(self, record: Record, reports: Sequence[Draft] = ()) -> None:
        with self._transaction("saving the update record") as db:
            _put(db, "record", to_json(record))
            _add(db, reports)

    # -- reports

    def add_reports(self, reports: Sequence[Draft]) -> None:
        with self._transaction("keeping reports") as db:
            _add(db, reports)

    def pending(self, limit: int) -> list[PendingReport]:
        with self._lock:
            rows = self._db.execute("SELECT execution, seq, body FROM reports ORDER BY n LIMIT ?", (limit,)).fetchall()
        return [PendingReport(execution, seq, json.loads(body)) for execution, seq, body in rows]

    def waiting(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM reports").fetchone()[0])

    def confirm_reports(self, accepted: dict[str, int]) -> None:
        with self._transaction("confirming reports") as db:
            for execution, seq in accepted.items():
                db.execute("DELETE FROM reports WHERE execution = ? AND seq <= ?", (execution, seq))

    # -- floors

    def floors(self) -> Floors:
        text = self._read("floors")
        return Floors.of_json(json.loads(text)) if text else Floors()

    def set_floors(self, floors: Floors) -> None:
        with self._transaction("raising floors") as db:
            row = db.execute("SELECT value FROM state WHERE key = 'floors'").fetchone()
            stored = Floors.of_json(json.loads(row[0])) if row else Floors()
            risen = with_epoch(with_versions(floors, stored.versions), stored.security_epoch)
            values = {**risen.as_json(), "time_utc_s": max(floors.time_utc_s, stored.time_utc_s)}
            if values != stored.as_json():
                _put(db, "floors", json.dumps(values))

    # -- small facts (last verified timestamp of the director, and the like) and journal

    def fact(self, key: str) -> dict[str, Any]:
        text = self._read(f"fact:{key}")
        return dict(json.loads(text)) if text else {}

    def set_fact(self, key: str, value: dict[str, Any]) -> None:
        with self._transaction("keeping what the director said") as db:
            _put(db, f"fact:{key}", json.dumps(value))

    def journal(self, event: str, fields: dict[str, Any]) -> None:
        with self._transaction("writing the journal") as db:
            db.execute("INSERT INTO journal (utc_s, event, fields) VALUES (?, ?, ?)", (time.time(), event, json.dumps(fields, default=str)))
            db.execute("DELETE FROM journal WHERE n <= (SELECT max(n) FROM journal) - ?", (JOURNAL_ROWS,))


def _put(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))


def _add(db: sqlite3.Connection, reports: Sequence[Draft]) -> None:
    for draft in reports:
        row = db.execute(
            "INSERT INTO report_heads VALUES (?, 1) ON CONFLICT (execution) DO UPDATE SET last_seq = last_seq + 1 RETURNING last_seq",
            (draft.execution,),
        ).fetchone()
        db.execute("INSERT INTO reports (execution, seq, body) VALUES (?, ?, ?)", (draft.execution, row[0], json.dumps(draft.body)))
