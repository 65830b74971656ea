"""Recompute from the lake what each device's ledger must say: rows and running hash per stream, no DISTINCT, no MERGE.

All rows of bronze and quarantine and all gaps are read, ordered by (stream, seq, idx) and hashed anew with the device's own
canonical row bytes. Anything that breaks the order is reported: duplicates, holes, a hash that does not come out.
A gap, and a batch that was quarantined whole, count with the rows that they stand for; the chain goes on from their ledger_hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from contracts.batch import LEDGER_START
from contracts.errors import error
from contracts.features import GAPS, QUARANTINE, ROW_ID, Column, ColumnType
from sync import codec
from sync.ingest.arrow import columns_of
from sync.ingest.rows import WHOLE_BATCH

_KINDS: dict[pa.DataType, ColumnType] = {
    pa.bool_(): "bool", pa.int16(): "i16", pa.int32(): "i32", pa.int64(): "i64", pa.float32(): "f32", pa.float64(): "f64",
    pa.string(): "utf8", pa.binary(): "binary", pa.timestamp("us", "UTC"): "utc_us",
}  # fmt: skip


@dataclass
class StreamAccount:
    """`rows` = bronze + quarantine + gap_rows must be the ledger's accepted rows, `running_hash` its running hash, `last_seq` its seq."""

    rows: int = 0
    running_hash: str = LEDGER_START.hex()
    last_seq: int = 0
    bronze: int = 0
    quarantine: int = 0
    gap_rows: int = 0
    faults: list[str] = field(default_factory=list)  # duplicates, holes, broken hashes


@dataclass
class Audit:
    streams: dict[str, StreamAccount]
    tables: dict[str, str]  # name -> path
    versions: dict[str, int]

    @property
    def clean(self) -> bool:
        return not any(account.faults for account in self.streams.values())

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "clean": self.clean}


@dataclass(frozen=True)
class _Entry:
    """One row of a table. `idx` is the first row that it stands for, `rows` how many; `raw` None: the hash cannot be made from it."""

    seq: int
    idx: int
    last_seq: int
    rows: int
    raw: bytes | None
    ledger_hash: bytes
    table: str


def audit(lake_dir: Path) -> Audit:
    """Reads the newest version of each table; no ingest needs to run. Raises CONFIG_MISSING when there is no such folder."""
    if not lake_dir.is_dir():
        raise error("CONFIG_MISSING", str(lake_dir), "no folder of tables is there")
    folders = [folder for folder in sorted(lake_dir.iterdir()) if DeltaTable.is_deltatable(str(folder))]
    tables = {folder.name: DeltaTable(str(folder)) for folder in folders}
    found = accounts({name: table.to_pyarrow_table() for name, table in tables.items()})
    return Audit(found, {folder.name: str(folder) for folder in folders}, {name: table.version() for name, table in tables.items()})


def accounts(tables: Mapping[str, pa.Table]) -> dict[str, StreamAccount]:
    """Table name -> all of its rows, in any order; one account per stream."""
    entries: dict[str, list[_Entry]] = {}
    for name, rows in tables.items():
        for stream, entry in _entries(name, rows):
            entries.setdefault(stream, []).append(entry)
    return {stream: _account(found) for stream, found in sorted(entries.items())}


def _entries(name: str, rows: pa.Table) -> Iterator[tuple[str, _Entry]]:
    if name == GAPS.name:
        for row in rows.to_pylist():
            yield row["stream"], _Entry(row["seq"], 0, row["last_seq"], row["rows"], None, row["ledger_hash"], name)
    elif name == QUARANTINE.name:
        for row in rows.to_pylist():
            raw = None if row["idx"] == WHOLE_BATCH else row["raw"]
            yield row["stream"], _Entry(row["seq"], row["idx"], row["seq"], row["rows"], raw, row["ledger_hash"], name)
    else:
        yield from _bronze(name, rows)


def _bronze(name: str, rows: pa.Table) -> Iterator[tuple[str, _Entry]]:
    names = {column.name for column in ROW_ID}
    columns = [Column.model_construct(name=f.name, type=_KINDS[f.type], nullable=f.nullable) for f in rows.schema if f.name not in names]
    for batch in rows.combine_chunks().to_batches():
        features = batch.select([column.name for column in columns])
        raw = codec.rows_with_indices(columns, columns_of(columns, features), batch.column("idx").to_pylist())
        identity = (batch.column(each).to_pylist() for each in ("stream", "seq", "idx", "ledger_hash"))
        for stream, seq, idx, ledger_hash, row in zip(*identity, raw, strict=True):
            yield stream, _Entry(seq, idx, seq, 1, row, ledger_hash, name)


def _account(entries: list[_Entry]) -> StreamAccount:
    account, running = StreamAccount(), LEDGER_START
    entries.sort(key=lambda entry: (entry.seq, entry.idx))
    position = 0
    while position < len(entries):
        end = position
        while end < len(entries) and entries[end].seq == entries[position].seq:
            end += 1
        running = _add_record(account, entries[position:end], running)
        position = end
    account.running_hash = running.hex()
    return account


def _add_record(account: StreamAccount, record: list[_Entry], running: bytes) -> bytes:
    """All entries of one seq. Returns the running hash after it."""
    seq, stated = record[0].seq, record[0].ledger_hash
    if seq != account.last_seq + 1:
        account.faults.append(f"{'hole' if seq > account.last_seq + 1 else 'overlap'} between {account.last_seq} and {seq}")
    for entry in record:
        account.rows += entry.rows
        kind = {GAPS.name: "gap_rows", QUARANTINE.name: "quarantine"}.get(entry.table, "bronze")
        setattr(account, kind, getattr(account, kind) + entry.rows)
    account.last_seq = max(entry.last_seq for entry in record)
    if len(record) == 1 and record[0].raw is None:
        return stated
    if [entry.idx for entry in record] != list(range(len(record))):
        account.faults.append(f"rows of {seq} are not 0..{len(record) - 1}")
    found = codec.extend(running, (entry.raw or b"" for entry in record))
    if found != stated:
        account.faults.append(f"running hash after {seq} is not that of the rows")
    return found
