"""A log entry that a power cut tore, wherever it was cut: the table opens, and its batch may come again once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.features import bronze
from sync.ingest.durability import LocalDisk
from sync.ingest.tables import LOG, DeltaLake
from sync.ingest.torn import TORN, whole
from tests.contract.test_lake_tables import some_rows
from tests.simulators.row_path import SCHEMA

TABLE = bronze(SCHEMA)
CUTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda entry: b"",
    "halfway": lambda entry: entry[: len(entry) // 2],
    "between two lines": lambda entry: b"".join(entry.splitlines(keepends=True)[:-1]),
    "last byte": lambda entry: entry[:-1],
    "zeros": lambda entry: bytes(len(entry)),
}


def entry_of(lake: Path, version: int) -> Path:
    return lake / TABLE.name / LOG / f"{version:020d}.json"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("version", [0, 1])
def test_a_torn_entry_is_set_aside_and_its_rows_come_once(tmp_path: Path, version: int, cut: str) -> None:
    table = DeltaLake(tmp_path, LocalDisk()).table(TABLE)
    if version:
        table.append(some_rows(TABLE, "x", 1), {"s/x": 1})
    torn = entry_of(tmp_path, version)
    torn.write_bytes(CUTS[cut](torn.read_bytes()))
    again = DeltaLake(tmp_path, LocalDisk()).table(TABLE)
    assert torn.with_name(torn.name + TORN).exists()
    assert (again.watermark("s/x"), list(again.ledger())) == (0, [])
    again.append(some_rows(TABLE, "x", 1), {"s/x": 1})
    assert list(DeltaLake(tmp_path, LocalDisk()).table(TABLE).ledger()) == [("x", 1, b"h")]


def test_a_whole_entry_stays(tmp_path: Path) -> None:
    DeltaLake(tmp_path, LocalDisk()).table(TABLE).append(some_rows(TABLE, "x", 1), {"s/x": 1})
    assert DeltaLake(tmp_path, LocalDisk()).table(TABLE).watermark("s/x") == 1
    assert list(tmp_path.rglob(f"*{TORN}")) == []


def test_an_entry_of_another_writer_is_whole_when_it_can_be_read() -> None:
    assert whole(b'{"commitInfo":{"operation":"OPTIMIZE"}}\n{"add":{}}')
    assert whole(b'{"add":{}}\n')
    assert not whole(b'{"add":{')


def test_names_that_a_killed_process_left_are_synced_at_the_next_start(tmp_path: Path) -> None:
    DeltaLake(tmp_path, LocalDisk())
    synced: list[Path] = []
    DeltaLake(tmp_path, LocalDisk(sync_folder=synced.append))
    assert tmp_path in synced
