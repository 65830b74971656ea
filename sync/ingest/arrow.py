"""pyarrow's side of contracts/features.py: table schemas, bodies of batches, and raw column bits for the ledger."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

import pyarrow as pa

from contracts.errors import error
from contracts.features import Column, FeatureSchema
from sync.codec import FIXED, ColumnData, Columns, decompress

_TYPES = {
    "bool": pa.bool_(), "i16": pa.int16(), "i32": pa.int32(), "i64": pa.int64(), "f32": pa.float32(), "f64": pa.float64(),
    "utf8": pa.string(), "binary": pa.binary(), "utc_us": pa.timestamp("us", "UTC"),
}  # fmt: skip


@functools.lru_cache(maxsize=256)
def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema([pa.field(column.name, _TYPES[column.type], column.nullable) for column in columns])


def decode(schema: FeatureSchema, body: bytes, rows: int) -> pa.RecordBatch:
    """The rows of a batch. Raises RejectedError INGEST_MALFORMED; what returns is valid Arrow of exactly this schema and length."""
    message = pa.py_buffer(decompress(body))
    try:
        if _packed_again(pa.ipc.read_message(message).metadata):
            raise ValueError("its buffers are compressed: their size would have no bound")
        batch = pa.ipc.read_record_batch(message, arrow_schema(schema.columns))
        batch.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, struct.error) as broken:
        raise error("INGEST_MALFORMED", schema.schema_id, str(broken)) from broken
    if batch.num_rows != rows:
        raise error("INGEST_MALFORMED", schema.schema_id, f"{batch.num_rows} rows, header says {rows}")
    for column, values in zip(schema.columns, batch.columns, strict=True):
        if values.null_count and not column.nullable:
            raise error("INGEST_MALFORMED", column.name, "null in a column that has none")
    return batch


_HEADER, _COMPRESSION = 2, 3  # field numbers of Arrow's format: Message.header, RecordBatch.compression


def _packed_again(metadata: pa.Buffer) -> bool:
    """Does the record batch have Arrow's own compression inside? pyarrow would unpack it to whatever it claims, before any check.

    `metadata` is a flatbuffer that pyarrow has verified; its reader in Python shows neither field, so two tables are walked here.
    """
    data = bytes(metadata)
    header = _field(data, _uoffset(data, 0), _HEADER)
    return header is None or _field(data, _uoffset(data, header), _COMPRESSION) is not None


def _uoffset(data: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where field `number` of the table lies; None when the table lacks it."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size, place = struct.unpack_from("<H", data, vtable)[0], 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + place)[0] if place < size else 0
    return table + offset if offset else None


def columns_of(columns: Sequence[Column], batch: pa.RecordBatch) -> Columns:
    """Raw bits of `batch` (columns in the order of `columns`), as sync.codec wants them for the ledger."""
    return Columns(batch.num_rows, tuple(_data(column, batch.column(i)) for i, column in enumerate(columns)))


def _data(column: Column, values: pa.Array) -> ColumnData:
    nulls = None
    if values.null_count:
        nulls = _bytes(values.is_null().cast(pa.uint8()), 1)
        filler = b"" if column.type == "binary" else "" if column.type == "utf8" else False if column.type == "bool" else 0
        values = values.fill_null(pa.scalar(filler, pa.int64()).cast(values.type) if column.type == "utc_us" else filler)
    if column.type == "bool":
        return ColumnData(_bytes(values.cast(pa.uint8()), 1), None, nulls)
    if column.type in FIXED:
        return ColumnData(_bytes(values, FIXED[column.type][1]), None, nulls)
    return _variable(values, nulls)


def _bytes(values: pa.Array, width: int) -> bytes:
    data = values.buffers()[1]
    return bytes(memoryview(data)[values.offset * width : (values.offset + len(values)) * width]) if data is not None else b""


def _variable(values: pa.Array, nulls: bytes | None) -> ColumnData:
    _, offsets_buffer, data = values.buffers()
    offsets = memoryview(offsets_buffer).cast("i")[values.offset : values.offset + len(values) + 1].tolist() if offsets_buffer else [0]
    start, end = offsets[0], offsets[-1]
    content = bytes(memoryview(data)[start:end]) if data is not None else b""
    return ColumnData(content, offsets if start == 0 else tuple(offset - start for offset in offsets), nulls)
