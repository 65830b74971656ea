"""One suite for Delta on disk and for the lake in memory: snapshots, conflicts, watermarks with the rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pytest

from contracts.errors import SkerryError, TransientError
from contracts.features import FRAME_COLUMNS, GAPS, QUARANTINE, Column, FeatureSchema, Table, bronze
from sync.ingest.arrow import arrow_schema
from sync.ingest.durability import LocalDisk
from sync.ingest.ports import Lake
from sync.ingest.tables import DeltaLake
from tests.simulators.lake import SimulatedLake, Storage
from tests.simulators.row_path import SCHEMA

Processes = Callable[[], Lake]  # each call is one more process that opens the same lake


@pytest.fixture(params=["delta", "simulated"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Processes:
    storage = Storage()
    return (lambda: DeltaLake(tmp_path, LocalDisk())) if request.param == "delta" else (lambda: SimulatedLake(storage))


def some_rows(table: Table, stream: str, seq: int, digest: bytes = b"h") -> pa.Table:
    """One row with zeros where nothing is asked for."""
    filler = {"utf8": "", "binary": b"", "bool": False, "utc_us": datetime(2026, 1, 1, tzinfo=timezone.utc)}
    row = {column.name: filler.get(column.type, 0) for column in table.columns}
    known = {"stream": stream, "seq": seq, "last_seq": seq, "ledger_hash": digest, "ingest_date": "2026-01-01"}
    return pa.Table.from_pylist([{**row, **{k: v for k, v in known.items() if k in row}}], arrow_schema(table.columns))


def test_rows_and_watermarks_appear_together(processes: Processes) -> None:
    table = processes().table(bronze(SCHEMA))
    assert table.watermark("s/x") == 0
    table.append(some_rows(bronze(SCHEMA), "x", 1), {"s/x": 1})
    assert table.watermark("s/x") == 1
    table.append(some_rows(bronze(SCHEMA), "y", 7, b"i"), {"s/y": 7})
    for lake in (processes(),):
        found = lake.table(bronze(SCHEMA))
        assert (found.watermark("s/x"), found.watermark("s/y"), found.watermark("s/z")) == (1, 7, 0)
        assert sorted(found.ledger()) == [("x", 1, b"h"), ("y", 7, b"i")]
        assert list(found.ledger("y")) == [("y", 7, b"i")]
        assert list(found.ledger("z")) == []


def test_a_commit_without_rows_moves_a_watermark(processes: Processes) -> None:
    table = processes().table(GAPS)
    table.append(None, {"s/x": 9})
    assert processes().table(GAPS).watermark("s/x") == 9
    assert list(table.ledger()) == []


def test_a_stale_snapshot_conflicts_and_a_fresh_one_tells(processes: Processes) -> None:
    first, second = processes().table(QUARANTINE), processes().table(QUARANTINE)
    first.append(some_rows(QUARANTINE, "x", 1), {"q/x": 1})
    assert second.watermark("q/x") == 0  # its snapshot is the old one
    with pytest.raises(TransientError, match="LAKE_CONFLICT"):
        second.append(some_rows(QUARANTINE, "x", 1), {"q/x": 1})
    with pytest.raises(TransientError, match="LAKE_CONFLICT"):
        second.append(some_rows(QUARANTINE, "y", 1), {"q/y": 1})
    second.refresh()
    assert second.watermark("q/x") == 1
    second.append(some_rows(QUARANTINE, "y", 1), {"q/y": 1})
    first.refresh()
    assert sorted(first.ledger()) == [("x", 1, b"h"), ("y", 1, b"h")]


def test_all_tables_are_found_again(processes: Processes) -> None:
    processes().table(bronze(SCHEMA))
    assert {table.name for table in processes().tables()} == {"bronze_digits", "quarantine", "gaps"}


def test_a_table_with_other_columns_is_refused(processes: Processes) -> None:
    processes().table(bronze(SCHEMA))
    other = FeatureSchema(family=SCHEMA.family, columns=(*FRAME_COLUMNS, Column(name="label", type="i32")))
    with pytest.raises(SkerryError, match="LAKE_SCHEMA_MISMATCH: bronze_digits"):
        processes().table(bronze(other))
