"""Rows per second from `accept` on the device to the durable Delta commit, in one process and without a network, against a raw
pyarrow Parquet write of the same rows in the same run. All of it is real: SQLite with fsync, signatures, zstd, the ledger's
hash per row on both sides, checks, Delta, fsync. The raw write does none of this: the ratio is the price of the promises.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from deltalake import DeltaTable

from contracts import topics
from sync.ingest.durability import LocalDisk
from sync.ingest.intake import admit
from sync.ingest.sink import Sink
from sync.ingest.tables import DeltaLake
from sync.uplink.outbox import Outgoing
from tests.simulators.clock import SimulatedClock
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.row_path import DEVICE, DEVICE_KEY, DIGEST, SCHEMA, open_outbox, rows

ROWS_PER_BATCH = 200  # the pipeline's largest request
BATCHES = 400
ROWS = ROWS_PER_BATCH * BATCHES
GOAL_OF_RAW = 0.05
TOPIC = topics.up(DEVICE, "live")


def figures() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="skerry-rowpath-") as folder:
        return measure(Path(folder))


def measure(folder: Path) -> list[dict[str, Any]]:
    (folder / "lake").mkdir()
    device_s, messages = _timed(lambda: _through_the_outbox(folder))
    ingest_s, _ = _timed(lambda: _into_the_lake(folder / "lake", messages))
    table = DeltaTable(str(folder / "lake" / "bronze_digits")).to_pyarrow_table()
    if table.num_rows != ROWS:
        raise AssertionError(f"{table.num_rows} rows in the lake, {ROWS} were accepted")
    raw_s, _ = _timed(lambda: _raw_parquet(table, folder / "raw.parquet"))
    whole, raw = ROWS / (device_s + ingest_s), ROWS / raw_s
    return [
        _figure("row path, device: accept to signed bytes", ROWS / device_s, "rows/s"),
        _figure("row path, ingest: bytes to durable commit", ROWS / ingest_s, "rows/s"),
        _figure("row path, whole", whole, "rows/s"),
        _figure("raw Parquet write of the same rows", raw, "rows/s"),
        {
            "name": "row path, share of a raw Parquet write",
            "value": round(whole / raw, 3),
            "unit": "",
            "goal": f">= {GOAL_OF_RAW:g}",
            "holds": whole / raw >= GOAL_OF_RAW,
            "against": f"{raw:,.0f} rows/s",
        },
    ]


def _through_the_outbox(folder: Path) -> list[Outgoing]:
    outbox = open_outbox(folder / "outbox.db", {"live": 1 << 30})
    for number in range(BATCHES):
        outbox.accept("live", SCHEMA, DIGEST, rows(number * ROWS_PER_BATCH, ROWS_PER_BATCH))
    messages = outbox.take(outbox.streams()[0], 0, 1 << 30)
    outbox.close()
    return messages


def _into_the_lake(lake: Path, messages: list[Outgoing]) -> None:
    registry = SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    registry.learn(SCHEMA)
    Sink(DeltaLake(lake, LocalDisk()), SimulatedClock()).commit([admit(TOPIC, each.message, registry) for each in messages])


def _raw_parquet(table: Any, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=1)
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _figure(name: str, value: float, unit: str) -> dict[str, Any]:
    return {"name": name, "value": round(value), "unit": unit, "goal": "", "holds": None, "against": ""}
