"""A backlog of accepted rows on one device, published until its last ack, through a real broker and a real ingest process, against a
raw Parquet write of the same rows in the same run. Device, broker and ingest share the machine, as they share no machine in life.

The backlog is made of the pipeline's largest requests; the rate at which the outbox accepts them is a line of its own.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from deltalake import DeltaTable

from contracts.batch import MAX_BATCH_ROWS
from tests.integration.sync_site import DIGEST, SCHEMA, Device, SyncSite, rows_of, until

ROWS = 1_000_000
GOAL_OF_RAW = 0.25
LIMIT_S = 300.0


def figures(rows: int = ROWS) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="skerry-backlog-") as folder:
        site = SyncSite(Path(folder))
        try:
            return _measured(site, rows)
        finally:
            site.close()


def _measured(site: SyncSite, rows: int) -> list[dict[str, Any]]:
    device = site.device("a", budgets={"live": 1 << 30})
    accept_s = _accept(device, rows)
    site.broker.start()
    site.start_ingest()
    publish_s = _publish(device)
    table = DeltaTable(str(site.lake / f"bronze_{SCHEMA.family}")).to_pyarrow_table()
    if table.num_rows != rows:
        raise AssertionError(f"{table.num_rows} rows in the lake, {rows} were accepted")
    raw_s = _raw_parquet(table, site.folder / "raw.parquet")
    share = raw_s / publish_s
    return [
        _line("outbox, accept (one fsync a request)", rows / accept_s, "rows/s"),
        _line("backlog, first publish to last ack", rows / publish_s, "rows/s"),
        _line("raw Parquet write of the backlog", rows / raw_s, "rows/s"),
        _line(
            "backlog, share of a raw Parquet write",
            round(share, 3),
            "",
            f">= {GOAL_OF_RAW:g}",
            share >= GOAL_OF_RAW,
            f"{rows / raw_s:,.0f} rows/s",
        ),
    ]


def _accept(device: Device, rows: int) -> float:
    began = time.perf_counter()
    for first in range(0, rows, MAX_BATCH_ROWS):
        device.outbox.accept("live", SCHEMA, DIGEST, rows_of(first, MAX_BATCH_ROWS))
    return time.perf_counter() - began


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
