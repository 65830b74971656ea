"""A control plane whose disk takes no writes: one code, nothing half-written, what was noted is kept, loops go on."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from contracts.canonical import sha256_hex
from contracts.errors import RejectedError, SkerryError, TransientError, error
from control_plane.adapters.blobs import BlobStore
from control_plane.services.attempts import Attempts
from control_plane.services.last_seen import LastSeen
from control_plane.services.unit_of_work import Units
from control_plane.store import events
from control_plane.store.base import Database, make_engine
from control_plane.store.migrate import migrate
from program.clock import SystemClock
from program.log import Log

CONTENT = os.urandom(300_000)
DIGEST = sha256_hex(CONTENT)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def pieces(count: int, failing: BaseException | None = None) -> AsyncIterator[bytes]:
    for start in range(count):
        yield CONTENT[start * 1000 : (start + 1) * 1000]
    if failing is not None:
        raise failing


# -- blobs


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with pytest.raises(ConnectionError):
        asyncio.run(store.receive(DIGEST, pieces(100, ConnectionError("client went away"))))
    assert (files(tmp_path), store.has(DIGEST)) == ([], False)
    assert asyncio.run(store.receive(DIGEST, pieces(300))) is True
    assert store.read(DIGEST) == CONTENT


def test_a_blob_has_no_name_before_it_is_whole(tmp_path: Path) -> None:
    """Whoever reads while an upload runs finds the blob or does not; never a part of it."""
    store, seen = BlobStore(tmp_path), []

    async def watched() -> AsyncIterator[bytes]:
        async for piece in pieces(300):
            seen.append(store.has(DIGEST))
            yield piece

    assert asyncio.run(store.receive(DIGEST, watched())) is True
    assert (any(seen), store.has(DIGEST)) == (False, True)


def full_disk() -> BaseException:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_under_an_upload_is_one_code(tmp_path: Path) -> None:
    """What a write there raises; the real disk is tests/integration/test_full_disk.py's."""
    with pytest.raises(TransientError) as refused:
        asyncio.run(BlobStore(tmp_path).receive(DIGEST, pieces(3, full_disk())))
    assert str(refused.value) == f"API_STORAGE: {tmp_path}: storing blob {DIGEST}: No space left on device"
    assert files(tmp_path) == []


def test_an_error_of_another_kind_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        asyncio.run(BlobStore(tmp_path).receive(DIGEST, pieces(3, OSError(errno.EBADF, os.strerror(errno.EBADF)))))


# -- database and loops


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(make_engine(f"sqlite:///{tmp_path / 'skerry.db'}"))
    migrate(database.engine)
    yield database
    database.close()


@contextmanager
def no_room_to_grow(database: Database) -> Iterator[None]:
    """SQLite's own limit on its pages: what it raises then is what it raises on a full disk."""
    event.listen(database.engine, "begin", _no_more_pages)
    try:
        yield
    finally:
        event.remove(database.engine, "begin", _no_more_pages)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")


def _no_more_pages(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA max_page_count=1")


def test_a_transaction_on_a_full_disk_is_one_code_and_did_not_happen(database: Database) -> None:
    units = Units(database, SystemClock())
    with no_room_to_grow(database), pytest.raises(TransientError, match=r"API_STORAGE: .*skerry.db: database or disk is full"):
        add_events(units, 200)
    with units.read() as session:
        assert events.read(session, 0, 10) == []
    add_events(units, 1)
    with units.read() as session:
        assert len(events.read(session, 0, 10)) == 1, "the same database goes on once there is room"


def add_events(units: Units, count: int) -> None:
    with units.write() as work:
        for number in range(count):
            work.event("tested", f"thing-{number}", what="x" * 500)


def test_heartbeats_that_could_not_be_written_are_kept(database: Database) -> None:
    units = Units(database, SystemClock())
    seen = LastSeen(units, SystemClock())
    seen.note("dev-" + "a" * 26)
    noted = seen.of("dev-" + "a" * 26)
    with refusing_writes(database), pytest.raises(TransientError, match="API_STORAGE"):
        seen.flush()
    assert seen.of("dev-" + "a" * 26) == noted
    seen.flush()
    assert seen.of("dev-" + "a" * 26) is None


@contextmanager
def refusing_writes(database: Database) -> Iterator[None]:
    """As on a file system that has become read-only."""
    event.listen(database.engine, "begin", _query_only)
    try:
        yield
    finally:
        event.remove(database.engine, "begin", _query_only)


def _query_only(_connection: Connection) -> None:
    readonly = sqlite3.OperationalError("attempt to write a readonly database")
    readonly.sqlite_errorcode = sqlite3.SQLITE_READONLY
    raise OperationalError("BEGIN IMMEDIATE", (), readonly)


def test_a_loop_tells_the_first_failure_and_the_recovery(caplog: pytest.LogCaptureFixture) -> None:
    attempt = Attempts(Log("control"), "campaigns")
    answers: list[SkerryError | int] = [error("API_STORAGE"), error("API_STORAGE"), 7, 8]

    def step() -> int:
        answer = answers.pop(0)
        if isinstance(answer, SkerryError):
            raise answer
        return answer

    with caplog.at_level("INFO"):
        assert [attempt(step) for _ in range(4)] == [None, None, 7, 8]
    assert [record.getMessage() for record in caplog.records] == ["control_waits", "control_recovered"]


def test_a_loop_does_not_swallow_what_is_no_transient_fault() -> None:
    def step() -> None:
        raise error("API_INVALID")

    with pytest.raises(RejectedError):
        Attempts(Log("control"), "campaigns")(step)
