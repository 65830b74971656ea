"""The outbox on a disk that gets short, or is full: rows give way, acks and the ledger do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.batch import BatchHeader
from contracts.errors import SkerryError
from sync import codec
from sync.uplink.outbox import Outbox
from tests.architecture.source import REPO
from tests.simulators.row_path import DIGEST, SCHEMA, believe, open_outbox, rows, signed_ack

RESERVE_BYTES = 1000


class Disk:
    def __init__(self) -> None:
        self.free = RESERVE_BYTES

    def __call__(self) -> int:
        return self.free


def headers(outbox: Outbox) -> list[BatchHeader]:
    return [codec.parse(one.message).header for one in outbox.take(outbox.streams()[0], 0, 1 << 30)]


def test_a_disk_below_its_reserve_sheds_the_oldest_unsent_rows_and_says_why(tmp_path: Path) -> None:
    disk = Disk()
    outbox = open_outbox(tmp_path / "outbox.db", reserve_bytes=RESERVE_BYTES, free_bytes=disk)
    for number in range(10):
        outbox.accept("live", SCHEMA, DIGEST, rows(number * 5, 5))
    assert outbox.ledger()[outbox.streams()[0]].shed_rows == 0, "the budget has room, and so has the disk"
    disk.free -= 1
    shed = sum(outbox.accept("live", SCHEMA, DIGEST, rows(number * 5, 5)).shed_rows for number in range(10, 20))
    entry = outbox.ledger()[outbox.streams()[0]]
    assert entry.shed_rows == shed > 0
    gap, *kept = headers(outbox)
    assert (gap.kind, gap.reason, gap.rows) == ("gap", "disk", shed)
    assert gap.rows + sum(header.rows for header in kept) == 100, "every accepted row is there, or counted in the gap"
    outbox.close()


def test_what_was_sent_is_not_shed_for_the_disk_and_an_ack_makes_room(tmp_path: Path) -> None:
    disk = Disk()
    outbox = open_outbox(tmp_path / "outbox.db", reserve_bytes=RESERVE_BYTES, free_bytes=disk)
    outbox.accept("live", SCHEMA, DIGEST, rows(0, 5))
    assert len(headers(outbox)) == 1, "sent"
    disk.free = 0
    with pytest.raises(SkerryError, match=r"OUTBOX_FULL: live: .*\(disk\)"):
        outbox.accept("live", SCHEMA, DIGEST, rows(5, 5))
    stream = outbox.streams()[0]
    assert believe(outbox, signed_ack({stream: (1, outbox.ledger()[stream].running_hash)})) == 5
    disk.free = RESERVE_BYTES
    assert outbox.accept("live", SCHEMA, DIGEST, rows(5, 5)).seq == 2
    outbox.close()


OPENED_AGAIN = """
import os, sqlite3, sys
from pathlib import Path
from tests.simulators.row_path import open_outbox
written = []
def traced(statement):
    written.append(statement)
real = sqlite3.connect
def connect(*given, **more):
    db = real(*given, **more)
    db.set_trace_callback(traced)
    return db
sqlite3.connect = connect
open_outbox(Path(sys.argv[1]))
print([s for s in written if s.split()[0] in ("CREATE", "INSERT", "UPDATE", "DELETE") or "user_version=" in s])
os._exit(0)
"""


def test_an_outbox_that_is_opened_again_writes_nothing(tmp_path: Path) -> None:
    """So an agent that was killed on a full disk comes back on it."""
    path = tmp_path / "outbox.db"

    def statements() -> str:
        done = subprocess.run([sys.executable, "-c", OPENED_AGAIN, str(path)], cwd=REPO, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert "CREATE TABLE" in statements()
    assert statements() == "[]"
    assert os.path.exists(path)


def fill(outbox: Outbox) -> None:
    for number in range(1000):
        outbox.accept("live", SCHEMA, DIGEST, rows(number * 50, 50))


def test_what_the_disk_said_is_kept_until_it_takes_a_write(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db", disk_limit_bytes=64 * 1024)
    with pytest.raises(SkerryError, match="OUTBOX_DISK"):
        fill(outbox)
    assert outbox.trouble == "database or disk is full"
    headers(outbox)
    stream = outbox.streams()[0]
    entry = outbox.ledger()[stream]
    believe(outbox, signed_ack({stream: (entry.accepted_seq, entry.running_hash)}))
    assert outbox.trouble == ""
    outbox.close()
