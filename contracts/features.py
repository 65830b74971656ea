"""Feature schemas (what may leave a device) and the lake's tables (where it lands), as data.

The same data are written as Arrow on the device (`sync/codec`, `sync/record_batch`) and read by pyarrow in the cloud (`sync/ingest`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from contracts.canonical import canonical_json, sha256_hex
from contracts.ids import Name, Wire

ColumnType = Literal["bool", "i16", "i32", "i64", "f32", "f64", "utf8", "binary", "utc_us"]


class Column(Wire):
    """One column. Numbers are little-endian on the wire; `utc_us` is microseconds since 1970 UTC (i64)."""

    name: Name
    type: ColumnType
    nullable: bool = False
    min: float | None = None  # inclusive; a value outside is quarantined with INGEST_ROW_RANGE
    max: float | None = None


# Every feature schema begins with these: who sees a row can order it and find its frame.
FRAME_COLUMNS = (
    Column(name="frame_no", type="i64", min=0),
    Column(name="event_utc", type="utc_us"),
    Column(name="mono_us", type="i64", min=0),
)


class FeatureSchema(Wire):
    """The signed list of columns that have a way out of the device (promise P7)."""

    family: Name  # the lake's table is `bronze_<family>`
    columns: tuple[Column, ...] = Field(min_length=len(FRAME_COLUMNS), max_length=256)

    @model_validator(mode="after")
    def _frame_columns_first(self) -> FeatureSchema:
        names = [column.name for column in self.columns]
        if self.columns[: len(FRAME_COLUMNS)] != FRAME_COLUMNS:
            raise ValueError("a feature schema begins with frame_no, event_utc, mono_us")
        if len(set(names)) != len(names) or set(names) & {column.name for column in ROW_ID}:
            raise ValueError("column names must be unique and not those of the row id")
        return self

    def of_window(self, name: str, columns: Sequence[Mapping[str, Any]]) -> FeatureSchema:
        """Of the rows of a window over rows of this schema; `columns` as processing.windows gives them."""
        return FeatureSchema(family=f"{self.family}__{name}", columns=(*FRAME_COLUMNS, *(Column(**column) for column in columns)))

    @property
    def schema_id(self) -> str:
        """First 16 hex digits of the sha256 over the canonical JSON of family and columns."""
        return sha256_hex(canonical_json(self.model_dump(mode="json")))[:16]


# Identity and origin of a row: (stream, seq, idx) is unique in bronze + quarantine.
ROW_ID = (
    Column(name="stream", type="utf8"),
    Column(name="seq", type="i64"),
    Column(name="idx", type="i32"),
    Column(name="device_id", type="utf8"),
    Column(name="bundle_digest", type="utf8"),
    Column(name="schema_id", type="utf8"),
    Column(name="accepted_utc", type="utc_us"),
    Column(name="ingest_utc", type="utc_us"),
    Column(name="ingest_date", type="utf8"),  # YYYY-MM-DD, the partition column
    Column(name="ledger_hash", type="binary"),  # the stream's running hash after this row's batch
)


@dataclass(frozen=True)
class Table:
    """A Delta table's contract. `properties` are exact; ingest refuses a table that differs (LAKE_SCHEMA_MISMATCH)."""

    name: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...]
    properties: tuple[tuple[str, str], ...]


_PROPERTIES = (
    ("delta.appendOnly", "true"),
    ("delta.checkpointInterval", "100000"),  # checkpoints are made, and synced, by maintenance only
    ("delta.dataSkippingStatsColumns", "stream,seq"),
    ("delta.logRetentionDuration", "interval 30 days"),
)


def bronze(schema: FeatureSchema) -> Table:
    return Table(f"bronze_{schema.family}", ROW_ID + schema.columns, ("ingest_date",), _PROPERTIES)


QUARANTINE = Table(
    "quarantine",
    (
        *ROW_ID,
        Column(name="code", type="utf8"),  # INGEST_...
        Column(name="detail", type="utf8"),
        Column(name="rows", type="i32"),  # 1, or the batch's count when the whole batch is kept (idx = -1)
        Column(name="raw", type="binary"),  # canonical row bytes, or the batch as received (at most 64 KiB)
    ),
    ("ingest_date",),
    _PROPERTIES,
)

GAPS = Table(
    "gaps",
    (
        *(column for column in ROW_ID if column.name not in ("idx", "bundle_digest", "schema_id")),
        Column(name="last_seq", type="i64"),
        Column(name="rows", type="i64"),
        Column(name="bytes", type="i64"),
        Column(name="reason", type="utf8"),  # budget
    ),
    ("ingest_date",),
    _PROPERTIES,
)
