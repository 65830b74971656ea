"""The device's two databases where the disk takes no writes at the start already: what is there is read, and later written again."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contracts.errors import LocalFaultError
from edge_agent.adapters.agent_db import SCHEMA, AgentDb
from edge_agent.core.record import Record
from edge_agent.ports import Draft
from program.disk import database_as_it_is, take
from tests.architecture.source import REPO
from tests.simulators.row_path import DIGEST, open_outbox, rows
from tests.simulators.row_path import SCHEMA as ROWS


@contextmanager
def no_new_files(folder: Path, name: str) -> Iterator[None]:
    """SQLite can open the file, but make neither its log nor its index: there are folders of that name. As on a disk without a byte."""
    taken = [folder / f"{name}{end}" for end in ("-wal", "-shm")]
    for path in taken:
        path.mkdir()
    try:
        yield
    finally:
        for path in taken:
            path.rmdir()


def test_the_record_is_there_on_a_disk_without_room_and_is_written_again_with_room(tmp_path: Path) -> None:
    first = AgentDb(tmp_path / "agent.db")
    record = Record(execution="c/d/1", fence=7)
    first.save(record)
    first.close()
    with no_new_files(tmp_path, "agent.db"):
        db = AgentDb(tmp_path / "agent.db")
        assert db.record() == record
        with pytest.raises(LocalFaultError, match="SETUP_STATE_DISK"):
            db.add_reports([Draft("c/d/1", {"kind": "event"})])
        assert db.trouble
    db.add_reports([Draft("c/d/1", {"kind": "event"})])
    assert ([one.seq for one in db.pending(9)], db.trouble) == ([1], "")
    db.close()


def test_the_ledger_is_there_on_a_disk_without_room_and_goes_on_with_room(tmp_path: Path) -> None:
    first = open_outbox(tmp_path / "outbox.db")
    stream = first.accept("live", ROWS, DIGEST, rows(0, 5)).stream
    first.close()
    with no_new_files(tmp_path, "outbox.db"):
        outbox = open_outbox(tmp_path / "outbox.db")
        assert (outbox.streams(), outbox.ledger()[stream].accepted_rows) == ([stream], 5)
        for write in (lambda: outbox.accept("live", ROWS, DIGEST, rows(5, 5)), lambda: outbox.take(stream, 0, 9)):
            with pytest.raises(LocalFaultError, match="OUTBOX_DISK"):
                write()
        assert outbox.trouble
    assert outbox.accept("live", ROWS, DIGEST, rows(5, 5)).seq == 2, "the same stream, the next number"
    outbox.close()


def test_without_a_file_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    with no_new_files(tmp_path, "agent.db"), pytest.raises(LocalFaultError, match="SETUP_STATE_DISK"):
        AgentDb(tmp_path / "agent.db")
    with no_new_files(tmp_path, "outbox.db"), pytest.raises(LocalFaultError, match="OUTBOX_DISK"):
        open_outbox(tmp_path / "outbox.db")


def test_only_a_file_of_our_form_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    assert database_as_it_is(path, SCHEMA) is None
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    assert database_as_it_is(path, SCHEMA) is None
    path.write_bytes(os.urandom(5000))
    assert database_as_it_is(path, SCHEMA) is None


def test_a_transaction_that_fails_leaves_the_connection_usable(tmp_path: Path) -> None:
    """SQLite itself rolls back when the disk is full; a second roll back would hide the cause."""
    db = AgentDb(tmp_path / "agent.db")
    db._db.execute("PRAGMA max_page_count=1")
    with pytest.raises(LocalFaultError, match=r"SETUP_STATE_DISK: .*: keeping reports: database or disk is full"):
        db.add_reports([Draft("c/d/1", {"detail": "x" * 5000}) for _ in range(50)])
    assert db.waiting() == 0, "none of them"
    db._db.execute("PRAGMA max_page_count=100000")
    db.add_reports([Draft("c/d/1", {"kind": "event"})])
    assert [one.seq for one in db.pending(9)] == [1], "the numbers stay dense"
    db.close()


HOLDER = """
import sys, threading
from pathlib import Path
from program.disk import take
held = take(Path(sys.argv[1]))
print("held", flush=True)
threading.Event().wait()
"""


def test_a_folder_is_held_until_its_process_ends_however_it_ends(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=REPO, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LocalFaultError, match="SETUP_STATE_TAKEN"):
            take(tmp_path)
        holder.kill()
    os.close(take(tmp_path))
