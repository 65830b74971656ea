"""A backlog of accepted rows on one device, published until its last ack, through a real broker and a real ingest process, against a
raw Parquet write of the same rows in the same run. Device, broker and ingest share the machine, as they share no machine in life.

Batches have 200 rows; the rate at which the outbox accepts them is a line of its own. The rows are feature rows: an int8 embedding of
128 values beside label and score, in bytes that no codec makes smaller. Shown beside it: rows without the embedding, of which almost
nothing is left for a writer to do, and the largest batches that there are, over which a signature costs next to nothing.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from deltalake import DeltaTable

from contracts.batch import MAX_BATCH_ROWS
from contracts.features import Column, FeatureSchema
from sync.uplink.uplink import SILENCE
from tests.integration.sync_site import DIGEST, SCHEMA, Device, SyncSite, rows_of, until

ROWS = 1_000_000
BATCH_ROWS = 200
GOAL_OF_RAW = 0.25
EMBEDDING_BYTES = 128
WIDE = FeatureSchema(family="embedded", columns=(*SCHEMA.columns, Column(name="embedding", type="binary")))
LIMIT_S = 300.0


def figures(rows: int = ROWS) -> list[dict[str, Any]]:
    wide, narrow = Kind("an embedding", WIDE, wide_rows_of), Kind("label and score alone", SCHEMA, rows_of)
    large = Kind(f"an embedding, {MAX_BATCH_ROWS} a batch", WIDE, wide_rows_of, MAX_BATCH_ROWS)
    return [*_lines(_backlog(wide, rows), f">= {GOAL_OF_RAW:g}"), *_lines(_backlog(narrow, rows)), *_lines(_backlog(large, rows))]


@dataclass(frozen=True)
class Kind:
    name: str
    schema: FeatureSchema
    rows_of: Callable[[int, int], list[list[Any]]]
    batch_rows: int = BATCH_ROWS


@dataclass(frozen=True)
class Backlog:
    """Rows a second."""

    kind: Kind
    accept: float
    publish: float
    raw: float


def wide_rows_of(first_frame: int, count: int) -> list[list[Any]]:
    noise = random.Random(first_frame)
    return [[*row, noise.randbytes(EMBEDDING_BYTES)] for row in rows_of(first_frame, count)]


def _backlog(kind: Kind, rows: int) -> Backlog:
    with tempfile.TemporaryDirectory(prefix="skerry-backlog-") as folder:
        site = SyncSite(Path(folder))
        site.registry.learn(kind.schema)
        try:
            return _measured(site, kind, rows)
        finally:
            site.close()


def _measured(site: SyncSite, kind: Kind, rows: int) -> Backlog:
    device = site.device("a", budgets={"live": 1 << 30}, silence=SILENCE)
    accept_s = _accept(device, kind, rows)
    site.broker.start()
    site.start_ingest(flush_s=1.0)
    publish_s = _publish(device)
    table = DeltaTable(str(site.lake / f"bronze_{kind.schema.family}")).to_pyarrow_table()
    if table.num_rows != rows:
        raise AssertionError(f"{table.num_rows} rows in the lake, {rows} were accepted")
    return Backlog(kind, rows / accept_s, rows / publish_s, rows / _raw_parquet(table, site.folder / "raw.parquet"))


def _lines(seen: Backlog, goal: str = "") -> list[dict[str, Any]]:
    share, of = seen.publish / seen.raw, f"rows with {seen.kind.name}"
    holds = share >= GOAL_OF_RAW if goal else None
    return [
        _line(f"outbox, accept (one fsync a request), {of}", seen.accept, "rows/s"),
        _line(f"backlog, first publish to last ack, {of}", seen.publish, "rows/s"),
        _line(f"backlog, share of a raw Parquet write, {of}", round(share, 3), "", goal, holds, f"{seen.raw:,.0f} rows/s"),
    ]


def _accept(device: Device, kind: Kind, rows: int) -> float:
    """Seconds in the outbox alone, without the making of the rows."""
    taken_s = 0.0
    for first in range(0, rows, kind.batch_rows):
        request = kind.rows_of(first, kind.batch_rows)
        began = time.perf_counter()
        device.outbox.accept("live", kind.schema, DIGEST, request)
        taken_s += time.perf_counter() - began
    return taken_s


def _publish(device: Device) -> float:
    began = time.perf_counter()
    device.start()
    until(device.drained, "the last ack", LIMIT_S)
    return time.perf_counter() - began


def _raw_parquet(table: Any, path: Path) -> float:
    """The best of three: the first one warms the allocator."""
    return min(_written_s(table, path) for _ in range(3))


def _written_s(table: Any, path: Path) -> float:
    began = time.perf_counter()
    pq.write_table(table, path, compression="zstd", compression_level=1)
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return time.perf_counter() - began


def _line(name: str, value: float, unit: str, goal: str = "", holds: bool | None = None, against: str = "") -> dict[str, Any]:
    return {"name": name, "value": round(value) if unit else value, "unit": unit, "goal": goal, "holds": holds, "against": against}


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
