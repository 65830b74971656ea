"""A batch between rows and bytes, and the ledger's canonical rows. PURE; no numpy and no Arrow library, so that the agent stays small.

    rows -> Columns -> Arrow record batch message without schema -> zstd -> body
    header (msgpack array) + body -> `u16 header length | header | body | signature`          (contracts/batch.py)

The ledger: `h = sha256(h || row_bytes)` for each row, starting at LEDGER_START. row_bytes is
`idx (u32) | per column: null flag (0 value, 1 null), then the value's raw little-endian bits`; utf8 and binary
values are preceded by their length (u32); bool is one byte; a null has no value bytes. Device, ingest and audit
all compute it from `Columns`, which each of them fills from its own Arrow, so that there is one implementation.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import msgpack
import zstandard
from pydantic import ValidationError

from contracts.batch import MAX_BATCH_BYTES, MAX_BATCH_ROWS, BatchHeader
from contracts.canonical import SIGNATURE_BYTES
from contracts.errors import error
from contracts.features import Column, FeatureSchema
from sync import record_batch
from sync.record_batch import Array

ZSTD_LEVEL = 1
MAX_BODY_DECODED_BYTES = 8 * 1024 * 1024  # a body that claims more is refused before it is decompressed
MAX_HEADER_BYTES = 2048
MAX_INTEGER = 2**63 - 1
_LENGTH = struct.Struct("<H")

FIXED = {"bool": ("B", 1), "i16": ("h", 2), "i32": ("i", 4), "i64": ("q", 8), "f32": ("f", 4), "f64": ("d", 8), "utc_us": ("q", 8)}
_PYTHON_TYPES: dict[str, frozenset[type]] = {
    "bool": frozenset({bool}),
    **dict.fromkeys(("i16", "i32", "i64", "utc_us"), frozenset({int})),
    **dict.fromkeys(("f32", "f64"), frozenset({float, int})),
    "utf8": frozenset({str}),
    "binary": frozenset({bytes}),
}


@dataclass(frozen=True)
class ColumnData:
    """One column's raw bits, `length` rows. Fixed width: `values` holds width * length little-endian bytes (bool: one byte each).

    utf8, binary: `values` is the concatenation and `offsets` has length + 1 entries, offsets[0] == 0.
    `nulls[i]` is 1 where row i has no value; None when there is no null.
    """

    values: bytes
    offsets: Sequence[int] | None = None
    nulls: bytes | None = None


@dataclass(frozen=True)
class Columns:
    length: int
    data: tuple[ColumnData, ...]


# -- rows -> Columns


def columns_of(schema: FeatureSchema, rows: Sequence[Sequence[Any]]) -> Columns:
    """Raw bits of `rows`, each a sequence in schema order. Raises RejectedError OUTBOX_SCHEMA, which names the column."""
    width = len(schema.columns)
    if not rows or any(len(row) != width for row in rows):
        raise error("OUTBOX_SCHEMA", schema.schema_id, f"wants one or more rows of {width} values")
    return Columns(len(rows), tuple(_column(column, values) for column, values in zip(schema.columns, zip(*rows))))


def _column(column: Column, values: tuple[Any, ...]) -> ColumnData:
    nulls, values = _without_nulls(column, values)
    if not set(map(type, values)) <= _PYTHON_TYPES[column.type]:
        raise error("OUTBOX_SCHEMA", column.name, f"every value must be {column.type}")
    try:
        if column.type in FIXED:
            return ColumnData(struct.pack(f"<{len(values)}{FIXED[column.type][0]}", *values), None, nulls)
        return _variable([value.encode() for value in values] if column.type == "utf8" else values, nulls)
    except (struct.error, OverflowError, UnicodeEncodeError) as unfit:
        raise error("OUTBOX_SCHEMA", column.name, str(unfit)) from unfit


def _without_nulls(column: Column, values: tuple[Any, ...]) -> tuple[bytes | None, tuple[Any, ...]]:
    if None not in values:
        return None, values
    if not column.nullable:
        raise error("OUTBOX_SCHEMA", column.name, "is not nullable")
    filler: Any = {"utf8": "", "binary": b"", "bool": False}.get(column.type, 0)
    return bytes(value is None for value in values), tuple(filler if value is None else value for value in values)


def _variable(pieces: Sequence[bytes], nulls: bytes | None) -> ColumnData:
    return ColumnData(b"".join(pieces), tuple(accumulate(map(len, pieces), initial=0)), nulls)


# -- the ledger


def row_bytes(schema: FeatureSchema, columns: Columns) -> Iterator[bytes]:
    """Canonical bytes of each row, in order; the first row has idx 0."""
    return rows_with_indices(schema.columns, columns, range(columns.length))


def rows_with_indices(columns: Sequence[Column], data: Columns, indices: Sequence[int]) -> Iterator[bytes]:
    """Canonical bytes of rows that have these `idx`; for one who reads them back in another order."""
    packed = struct.pack(f"<{data.length}I", *indices)
    pieces = list(_row_pieces(columns, data.data, packed, data.length))
    return iter(pieces[0]) if len(pieces) == 1 else map(b"".join, zip(*pieces))


def _row_pieces(columns: Sequence[Column], data: Sequence[ColumnData], indices: bytes, length: int) -> Iterator[list[bytes]]:
    """Lists of `length` pieces whose concatenation per row is the row. Neighbours of one width in all rows are one piece."""
    run: list[bytes] = _lanes(indices, 4)
    for column, content in zip(columns, data):
        if content.nulls is not None:
            if run:
                yield _interleave(run, length)
            yield _nullable(column, content, content.nulls)
            run = []
        elif column.type in FIXED:
            run += [bytes(length), *_lanes(content.values, FIXED[column.type][1])]
        else:
            pieces = _pieces(column, content)
            yield _interleave([*run, bytes(length), *_lanes(_lengths(pieces), 4)], length)
            yield pieces
            run = []
    if run:
        yield _interleave(run, length)


def _lanes(values: bytes, width: int) -> list[bytes]:
    """Byte k of every value, for each k."""
    return [values[byte::width] for byte in range(width)]


def _interleave(lanes: Sequence[bytes], length: int) -> list[bytes]:
    """Byte k of every row stands in lanes[k]; strided assignment does in C what a loop over cells would do in Python."""
    width = len(lanes)
    block = bytearray(width * length)
    for position, lane in enumerate(lanes):
        block[position::width] = lane
    return _cut(block, width)


def _cut(block: bytes | bytearray, width: int) -> list[bytes]:
    return [piece for (piece,) in struct.iter_unpack(f"{width}s", block)]


def _pieces(column: Column, content: ColumnData) -> list[bytes]:
    """Each row's value, without its length."""
    if column.type in FIXED:
        return _cut(content.values, FIXED[column.type][1])
    offsets = content.offsets or (0,)
    return [content.values[start:end] for start, end in pairwise(offsets)]


def _lengths(pieces: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{len(pieces)}I", *map(len, pieces))


def _nullable(column: Column, content: ColumnData, nulls: bytes) -> list[bytes]:
    pieces = _pieces(column, content)
    if column.type not in FIXED:
        pieces = list(map(b"".join, zip(_cut(_lengths(pieces), 4), pieces)))
    return [b"\1" if null else b"\0" + piece for null, piece in zip(nulls, pieces)]


def extend(running_hash: bytes, rows: Iterator[bytes]) -> bytes:
    """The running hash after `rows`: sha256 over the hash before and each row, one row after the other."""
    sha256 = hashlib.sha256
    for row in rows:
        running_hash = sha256(running_hash + row).digest()
    return running_hash


# -- Columns -> body


def encode_body(schema: FeatureSchema, columns: Columns) -> bytes:
    """zstd of one Arrow record batch message; the schema goes by its id."""
    arrays = [_array(column, data) for column, data in zip(schema.columns, columns.data)]
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(record_batch.message(columns.length, arrays))


def decompress(body: bytes) -> bytes:
    """The record batch message of a body. Raises RejectedError INGEST_MALFORMED; the size is bounded before memory is taken."""
    try:
        size = zstandard.frame_content_size(body)
        if not 0 < size <= MAX_BODY_DECODED_BYTES:
            raise error("INGEST_MALFORMED", "body", f"claims {size} bytes")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=MAX_BODY_DECODED_BYTES)
    except zstandard.ZstdError as broken:
        raise error("INGEST_MALFORMED", "body", str(broken)) from broken


def _array(column: Column, data: ColumnData) -> Array:
    validity = b"" if data.nulls is None else _bitmap(bytes(1 - flag for flag in data.nulls))
    values = _bitmap(data.values) if column.type == "bool" else data.values
    offsets = [] if data.offsets is None else [struct.pack(f"<{len(data.offsets)}i", *data.offsets)]
    return Array(sum(data.nulls or b""), [validity, *offsets, values])


def _bitmap(flags: bytes) -> bytes:
    """One bit per flag, least significant first, as Arrow wants it."""
    padded = flags + bytes(-len(flags) % 8)
    return bytes(sum(padded[start + bit] << bit for bit in range(8)) for start in range(0, len(padded), 8))


# -- framing


@dataclass(frozen=True)
class Frame:
    """A batch as received, taken apart. Nothing in it is trusted before `signature` is checked over `signed`."""

    header: BatchHeader
    signed: bytes  # length + header, the bytes under the signature
    body: bytes
    signature: bytes


def pack_header(header: BatchHeader) -> bytes:
    """`u16 length + msgpack array`: what the signature covers."""
    packed = msgpack.packb(header.to_array(), use_bin_type=True)
    return bytes(_LENGTH.pack(len(packed)) + packed)


def frame(signed: bytes, body: bytes, signature: bytes) -> bytes:
    return signed + body + signature


def parse(message: bytes) -> Frame:
    """Take a message apart. Raises RejectedError INGEST_MALFORMED; checks neither signature nor body."""
    if not _LENGTH.size + SIGNATURE_BYTES < len(message) <= MAX_BATCH_BYTES:
        raise error("INGEST_MALFORMED", "message", f"has {len(message)} bytes")
    length = _LENGTH.unpack_from(message)[0]
    end = _LENGTH.size + length
    if length > MAX_HEADER_BYTES or end + SIGNATURE_BYTES > len(message):
        raise error("INGEST_MALFORMED", "header", f"claims {length} bytes")
    return Frame(_header(message[_LENGTH.size : end]), message[:end], message[end:-SIGNATURE_BYTES], message[-SIGNATURE_BYTES:])


def _header(packed: bytes) -> BatchHeader:
    try:
        values = msgpack.unpackb(packed, raw=False, strict_map_key=True)
        if not isinstance(values, list) or any(isinstance(value, int) and abs(value) > MAX_INTEGER for value in values):
            raise ValueError("is not an array of what the tables can hold")
        header = BatchHeader.from_array(values)
        if header.kind == "rows" and header.rows > MAX_BATCH_ROWS:
            raise ValueError(f"claims {header.rows} rows")
        return header
    except (ValueError, ValidationError, msgpack.UnpackException, TypeError) as broken:
        raise error("INGEST_MALFORMED", "header", str(broken)) from broken


def body_digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
