"""Ingest is killed (SIGKILL) at each point of its work, on real Delta tables: each accepted row is in the lake once.

POINTS is the whole list: before every effect on the outside, and in the middle of a data file. A process that does something new
does not pass before it stands here.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.ingest.audit import audit
from tests.simulators.ingest_process import IngestProcesses, Order
from tests.simulators.row_path import DIGEST, SCHEMA, WIDE_SCHEMA, believe, open_outbox, row, rows


def created(name: str) -> tuple[str, ...]:
    return (f"create /{name}", "sync /.", *opened(name, 0))


def opened(name: str, version: int) -> tuple[str, ...]:
    return (f"sync /{name}", *(f"sync /{name}/log/{entry}" for entry in range(version + 1)), f"sync /{name}/log")


def committed(name: str, version: int) -> tuple[str, ...]:
    part = f"/{name}/date/part"
    data = (f"write {part}", f"halfway {part}", f"sync {part}", f"sync /{name}/date", f"sync /{name}")
    return (*data, f"commit /{name}", f"sync /{name}/log/{version}", f"sync /{name}/log")


POINTS = (
    "sync /.", *created("quarantine"), *created("gaps"), *created("bronze_digits"), *created("bronze_wide"),
    *committed("quarantine", 1), *committed("bronze_digits", 1), *committed("bronze_wide", 1), *committed("quarantine", 2),
    "publish", "puback", "puback", "puback", "puback", "end",
)  # fmt: skip
COMMITS = [number for number, what in enumerate(POINTS, 1) if what.startswith("commit ")]


class Line:
    """A device and a lake; ingest processes come and go."""

    def __init__(self, folder: Path, processes: IngestProcesses) -> None:
        self.folder, self._processes = folder, processes
        for name in ("lake", "in", "acks"):
            (folder / name).mkdir()
        self.outbox = open_outbox(folder / "outbox.db", {"live": 1 << 20})
        self.stream = self.outbox.streams()[0]

    def live(self, die_at: int = 0, unclear_at: int = 0, acks_arrive: bool = True) -> tuple[int, tuple[str, ...]]:
        """The device sends what was not acknowledged; (exit code, points) of the process that takes it."""
        for name in ("in", "acks"):
            for old in (self.folder / name).iterdir():
                old.unlink()
        acked = self.outbox.ledger()[self.stream].acked_seq
        for number, record in enumerate(self.outbox.take(self.stream, acked, 1 << 20)):
            (self.folder / "in" / f"{number:04}-{record.lane}").write_bytes(record.message)
        code = self._processes.run(Order(str(self.folder), die_at, unclear_at))
        for ack in sorted((self.folder / "acks").iterdir()) if acks_arrive else ():
            believe(self.outbox, ack.read_bytes())
        return code, tuple((self.folder / "points").read_text().splitlines())

    def accept(self) -> None:
        """Good rows, some bad ones, another family, and nothing but bad ones."""
        self.outbox.accept("live", SCHEMA, DIGEST, rows(0, 3))
        self.outbox.accept("live", SCHEMA, DIGEST, [row(3), row(4, bad=True)])
        self.outbox.accept("live", WIDE_SCHEMA, DIGEST, [[*row(5), "a note"]])
        self.outbox.accept("live", SCHEMA, DIGEST, [row(6, bad=True)])

    def check_complete(self) -> None:
        """Everything is acknowledged, and the lake equals the ledger by count and by hash."""
        entry, account = self.outbox.ledger()[self.stream], audit(self.folder / "lake").streams[self.stream]
        assert (entry.acked_seq, entry.pending_bytes) == (entry.accepted_seq, 0)
        assert account.faults == []
        assert (account.rows, account.running_hash, account.last_seq) == (entry.accepted_rows, entry.running_hash, entry.accepted_seq)


@pytest.fixture(scope="module")
def processes() -> Iterator[IngestProcesses]:
    with IngestProcesses() as parent:
        yield parent


@pytest.fixture
def line(tmp_path: Path, processes: IngestProcesses) -> Iterator[Line]:
    made = Line(tmp_path, processes)
    made.accept()
    yield made
    made.outbox.close()


def test_these_are_all_the_points(line: Line) -> None:
    assert line.live() == (0, POINTS)
    line.check_complete()


@pytest.mark.parametrize("number", range(1, len(POINTS) + 1), ids=lambda number: f"{number}-{POINTS[number - 1].replace(' ', '-')}")
def test_killed_at_each_point(line: Line, number: int) -> None:
    code, points = line.live(die_at=number)
    assert (code, points) == (-signal.SIGKILL, POINTS[:number])
    assert line.live()[0] == 0
    line.check_complete()


def test_acks_that_are_lost_are_given_again(line: Line) -> None:
    assert line.live(acks_arrive=False)[0] == 0
    assert line.outbox.ledger()[line.stream].acked_seq == 0
    assert line.live()[0] == 0
    line.check_complete()


@pytest.mark.parametrize("number", COMMITS)
def test_a_commit_whose_answer_is_lost_is_asked_for(line: Line, number: int) -> None:
    """It stands, and its call says that it failed: the table tells."""
    assert line.live(unclear_at=number)[0] == 0
    line.check_complete()


def test_killed_again_and_again_on_one_lake(line: Line) -> None:
    codes = []
    for number in range(2, 60, 3):
        line.outbox.accept("live", SCHEMA, DIGEST, [row(number), row(number + 1, bad=number % 2 == 0)])
        codes.append(line.live(die_at=number, acks_arrive=number % 4 > 0)[0])
    assert codes.count(-signal.SIGKILL) > 10
    assert line.live()[0] == 0
    line.check_complete()
