"""Ingest as a process that ends by SIGKILL at a chosen point of its work. Real: Delta by delta-rs, files, signatures; a folder is its wire.

    <folder>/lake      <folder>/in/<n>-<lane>  messages, taken in order
    <folder>/acks/<n>  what it published       <folder>/points         what it did

A point lies before each effect on the outside, one in the middle of each data file, and one at the end. `python -m
tests.simulators.ingest_process` forks a child for each line that it reads: the imports are paid once, and nothing of Delta's threads runs
where the fork is made.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from contracts import topics
from sync.ingest import tables
from sync.ingest.durability import LocalDisk
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.mail import SimulatedMail
from tests.simulators.row_path import DEVICE, DEVICE_KEY, SCHEMA, WIDE_SCHEMA, Ingest

REPO = Path(__file__).resolve().parents[2]
_SHORT = ((r"/_delta_log", "/log"), (r"/0*(\d+)\.json$", r"/\1"), (r"/ingest_date=[^/]*", "/date"), (r"/part-[^/]*", "/part"))


@dataclass(frozen=True)
class Order:
    folder: str
    die_at: int = 0  # number of the point, from 1; 0: never
    unclear_at: int = 0  # the commit with this number stands, and its call says that it failed


class Points:
    def __init__(self, order: Order) -> None:
        self._order, self._folder, self.number = order, Path(order.folder), 0
        self._log = (self._folder / "points").open("w")

    def reach(self, what: str, path: Path | None = None) -> None:
        self.number += 1
        print(what if path is None else f"{what} {self._name(path)}", file=self._log, flush=True)
        if self.number == self._order.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def unclear(self) -> None:
        if self.number == self._order.unclear_at:
            raise DeltaError("no answer in time")

    def _name(self, path: Path) -> str:
        name = f"/{path.relative_to(self._folder / 'lake')}"
        for pattern, short in _SHORT:
            name = re.sub(pattern, short, name)
        return name


class Disk(LocalDisk):
    def __init__(self, points: Points) -> None:
        super().__init__()
        self._points = points

    def file(self, path: Path) -> None:
        self._points.reach("sync", path)
        super().file(path)

    def folder(self, path: Path) -> None:
        self._points.reach("sync", path)
        super().folder(path)


class Mail(SimulatedMail):
    def __init__(self, points: Points, acks: Path) -> None:
        super().__init__()
        self._points, self._acks = points, acks

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self._points.reach("publish")
        (self._acks / f"{len(list(self._acks.iterdir())):04}").write_bytes(payload)

    def acknowledge(self, message: Any) -> None:
        self._points.reach("puback")


def delta_with(points: Points) -> type[DeltaTable]:
    class Delta(DeltaTable):
        @classmethod
        def create(cls, table_uri: str, *args: Any, **options: Any) -> DeltaTable:  # type: ignore[override]
            points.reach("create", Path(table_uri))
            return DeltaTable.create(table_uri, *args, **options)

        def create_write_transaction(self, *args: Any, **options: Any) -> None:
            points.reach("commit", Path(self.table_uri.removeprefix("file://")))
            super().create_write_transaction(*args, **options)
            points.unclear()

    return Delta


def parquet_with(points: Points) -> SimpleNamespace:
    def write_table(rows: pa.Table, path: Path, **options: Any) -> None:
        points.reach("write", path)
        pq.write_table(rows, path, **options)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        points.reach("halfway", path)
        path.write_bytes(whole)

    return SimpleNamespace(write_table=write_table)


def work(order: Order) -> None:
    """One life of ingest: what is in the folder comes in, is committed, is acknowledged."""
    folder, points = Path(order.folder), Points(order)
    vars(tables).update(DeltaTable=delta_with(points), pq=parquet_with(points))
    registry = SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    for schema in (SCHEMA, WIDE_SCHEMA):
        registry.learn(schema)
    ingest = Ingest(tables.DeltaLake(folder / "lake", Disk(points)), registry, folder, mail=Mail(points, folder / "acks"))
    for path in sorted((folder / "in").iterdir()):
        ingest.mail.put(topics.up(DEVICE, path.name.partition("-")[2]), path.read_bytes())
    ingest.worker.step(0)
    ingest.worker.flush()
    points.reach("end")


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(Order(**json.loads(line)))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


class IngestProcesses:
    """The parent of all of them, as a context."""

    def __enter__(self) -> IngestProcesses:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.simulators.ingest_process"], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate()

    def run(self, order: Order) -> int:
        """A whole life; the exit code, negative for a signal."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        print(json.dumps(vars(order)), file=self._parent.stdin, flush=True)
        return int(self._parent.stdout.readline())


if __name__ == "__main__":
    main()
