"""The lake's rows from batches: the row id and origin columns of contracts/features.py before the device's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from contracts.features import GAPS, QUARANTINE, ROW_ID, Table
from sync import codec
from sync.ingest.arrow import arrow_schema, columns_of
from sync.ingest.intake import Batch

WHOLE_BATCH = -1  # idx of a quarantine row that stands for all rows of its batch


def bronze(table: Table, group: Sequence[Batch], now: datetime) -> pa.Table:
    """The good rows of `group`. What all rows of a batch share is built once a batch and spread over the rows of the whole group."""
    schema = arrow_schema(table.columns)
    indices = [[idx for idx in range(batch.header.rows) if idx not in batch.bad_rows] for batch in group]
    batch_of_row = pa.array([number for number, good in enumerate(indices) for _ in good], pa.int32())
    shared = [_constants(batch, now) for batch in group]

    def column(name: str) -> pa.Array:
        if name == "idx":
            return pa.array([idx for good in indices for idx in good], schema.field(name).type)
        return pa.array([each[name] for each in shared], schema.field(name).type).take(batch_of_row)

    values = pa.Table.from_batches([_good_values(batch, good) for batch, good in zip(group, indices, strict=True)])
    return pa.Table.from_arrays([*(column(each.name) for each in ROW_ID), *values.columns], schema=schema)


def _good_values(batch: Batch, good: list[int]) -> pa.RecordBatch:
    if batch.rows is None:
        raise TypeError("a batch without rows has no place in bronze")
    return batch.rows.take(pa.array(good, pa.int32())) if batch.bad_rows else batch.rows


def quarantine(group: Iterable[Batch], now: datetime) -> pa.Table:
    """The bad rows of `group`, and whole batches as received."""
    return _table(QUARANTINE, (row for batch in group for row in _quarantined(batch, now)))


def gaps(group: Iterable[Batch], now: datetime) -> pa.Table:
    return _table(GAPS, (_gap(batch, now) for batch in group))


def _constants(batch: Batch, now: datetime) -> dict[str, Any]:
    header = batch.header
    return {
        "stream": batch.stream,
        "seq": header.seq,
        "device_id": header.device,
        "bundle_digest": header.bundle_digest,
        "schema_id": header.schema_id,
        "accepted_utc": header.accepted_utc_us,
        "ingest_utc": now,
        "ingest_date": now.date().isoformat(),
        "ledger_hash": header.hash_after,
    }


def _quarantined(batch: Batch, now: datetime) -> Iterator[dict[str, Any]]:
    constants = _constants(batch, now)
    if batch.rows is None or batch.schema is None:
        fault = batch.fault
        yield {
            **constants, "idx": WHOLE_BATCH, "code": fault.code if fault else "", "detail": fault.detail if fault else "",
            "rows": batch.header.rows, "raw": batch.message,
        }  # fmt: skip
        return
    raw = list(codec.row_bytes(batch.schema, columns_of(batch.schema.columns, batch.rows)))
    for idx, detail in sorted(batch.bad_rows.items()):
        yield {**constants, "idx": idx, "code": "INGEST_ROW_RANGE", "detail": detail, "rows": 1, "raw": raw[idx]}


def _gap(batch: Batch, now: datetime) -> dict[str, Any]:
    header = batch.header
    return {
        **_constants(batch, now), "last_seq": header.last_seq, "rows": header.rows, "bytes": header.shed_bytes, "reason": header.reason,
    }  # fmt: skip


def _table(contract: Table, found: Iterable[dict[str, Any]]) -> pa.Table:
    """Values of other columns than the contract's are left out."""
    return pa.Table.from_pylist(list(found), arrow_schema(contract.columns))
