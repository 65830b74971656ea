"""Rows <-> bytes: every type, nulls, limits; pyarrow as the oracle; wire bytes of version 1; and no numpy."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgpack
import nanoarrow
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.batch import LEDGER_START, MAX_BATCH_ROWS
from contracts.canonical import CONTEXT_BATCH
from contracts.errors import SkerryError
from contracts.features import FRAME_COLUMNS, Column, ColumnType, FeatureSchema
from signatures.ed25519 import verify
from sync import codec
from sync.ingest.arrow import columns_of, decode

REPO = Path(__file__).resolve().parents[2]
WIRE_V1 = REPO / "tests" / "wire_history" / "v1"
KINDS: tuple[ColumnType, ...] = get_args(ColumnType)
PLAIN = FeatureSchema(family="plain", columns=(*FRAME_COLUMNS, Column(name="label", type="i16"), Column(name="score", type="f32")))
EVERYTHING = FeatureSchema(
    family="everything",
    columns=(
        *FRAME_COLUMNS,
        *(Column(name=f"v_{kind}", type=kind) for kind in KINDS),
        *(Column(name=f"n_{kind}", type=kind, nullable=True) for kind in KINDS),
    ),
)
I64 = st.integers(-(2**63), 2**63 - 1)
UTC_US = st.integers(-(2**62), 2**62)
VALUES = {
    "bool": st.booleans(), "i16": st.integers(-(2**15), 2**15 - 1), "i32": st.integers(-(2**31), 2**31 - 1), "i64": I64,
    "f32": st.floats(width=32), "f64": st.floats(), "utf8": st.text(max_size=5), "binary": st.binary(max_size=5), "utc_us": UTC_US,
}  # fmt: skip
ROWS = st.lists(
    st.tuples(*(st.none() | VALUES[column.type] if column.nullable else VALUES[column.type] for column in EVERYTHING.columns)),
    min_size=1,
    max_size=12,
)


def encoded(schema: FeatureSchema, rows: list[Any]) -> tuple[codec.Columns, bytes]:
    columns = codec.columns_of(schema, rows)
    return columns, codec.encode_body(schema, columns)


@settings(max_examples=40)
@given(ROWS)
def test_what_pyarrow_reads_is_what_was_written(rows: list[Any]) -> None:
    columns, body = encoded(EVERYTHING, rows)
    batch = decode(EVERYTHING, body, len(rows))
    assert batch.num_rows == len(rows)
    # raw bits are equal, NaN payloads and signed zeros too
    assert list(codec.row_bytes(EVERYTHING, columns_of(EVERYTHING.columns, batch))) == list(codec.row_bytes(EVERYTHING, columns))
    for column, values in zip(EVERYTHING.columns, batch.columns):
        if column.type not in ("f32", "f64", "utc_us"):
            assert values.to_pylist() == [row[batch.schema.get_field_index(column.name)] for row in rows]


@settings(max_examples=20)
@given(ROWS)
def test_nanoarrow_reads_the_same(rows: list[Any]) -> None:
    """A second reader, by other people, checks what it reads before it believes it."""
    schema = decode(EVERYTHING, encoded(EVERYTHING, rows)[1], len(rows)).schema
    stream = io.BytesIO(schema.serialize().to_pybytes() + codec.decompress(encoded(EVERYTHING, rows)[1]))
    read = nanoarrow.ArrayStream.from_readable(stream).read_all()
    for place, column in enumerate(EVERYTHING.columns):
        if column.type not in ("f32", "f64", "utc_us"):
            assert read.child(place).to_pylist() == [row[place] for row in rows]


@settings(max_examples=40)
@given(ROWS)
def test_the_ledger_is_the_same_over_slices_of_a_longer_table(rows: list[Any]) -> None:
    """An audit reads slices with offsets, not the batches as they came."""
    columns, body = encoded(EVERYTHING, rows)
    batch = decode(EVERYTHING, body, len(rows))
    doubled = pa.Table.from_batches([batch, batch]).combine_chunks().to_batches()[0].slice(len(rows))
    assert list(codec.row_bytes(EVERYTHING, columns_of(EVERYTHING.columns, doubled))) == list(codec.row_bytes(EVERYTHING, columns))


def test_row_bytes_are_as_written_down() -> None:
    schema = FeatureSchema(family="f", columns=(*FRAME_COLUMNS, Column(name="a", type="utf8", nullable=True), Column(name="b", type="f32")))
    columns = codec.columns_of(schema, [[1, 2, 3, "æ", 0.5], [4, 5, 6, None, -0.0]])
    first, second = codec.row_bytes(schema, columns)
    text = "æ".encode()
    frame = b"".join(b"\0" + struct.pack("<q", value) for value in (1, 2, 3))
    assert first == struct.pack("<I", 0) + frame + b"\0" + struct.pack("<I", len(text)) + text + b"\0" + struct.pack("<f", 0.5)
    assert second[-6:] == b"\1" + b"\0" + struct.pack("<f", -0.0)
    one = hashlib.sha256(LEDGER_START + first).digest()
    assert codec.extend(LEDGER_START, iter([first, second])) == hashlib.sha256(one + second).digest()


def test_a_body_is_one_record_batch_message_without_schema() -> None:
    _, body = encoded(PLAIN, [[1, 2, 3, 4, 0.5]])
    message = pa.ipc.read_message(pa.py_buffer(zstandard.ZstdDecompressor().decompress(body)))
    assert message.type == "record batch"


@pytest.mark.parametrize(
    ("rows", "thing"),
    [
        ([], "f2ad8de1b9f1d1a5"),
        ([[1, 2, 3, 4]], ""),
        ([[1, 2, 3, 40_000, 0.5]], "label"),
        ([[1, 2, 3, 4.0, 0.5]], "label"),
        ([[1, 2, 3, True, 0.5]], "label"),
        ([[1, 2, 3, None, 0.5]], "label"),
        ([[1, 2, 3, 4, 1e300]], "score"),
        ([[1, 2, 3, 4, "x"]], "score"),
        ([[2**63, 2, 3, 4, 0.5]], "frame_no"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: list[Any], thing: str) -> None:
    with pytest.raises(SkerryError) as refusal:
        codec.columns_of(PLAIN, rows)
    assert refusal.value.code == "OUTBOX_SCHEMA"
    assert not thing.isalpha() or refusal.value.thing == thing


def test_text_that_is_not_unicode_is_refused() -> None:
    schema = FeatureSchema(family="f", columns=(*FRAME_COLUMNS, Column(name="a", type="utf8")))
    with pytest.raises(SkerryError, match="OUTBOX_SCHEMA: a"):
        codec.columns_of(schema, [[1, 2, 3, "\ud800"]])


@pytest.mark.parametrize("body", [b"", b"rubbish", zstandard.ZstdCompressor().compress(b"x" * (codec.MAX_BODY_DECODED_BYTES + 1))])
def test_a_body_is_bounded_before_it_is_decompressed(body: bytes) -> None:
    with pytest.raises(SkerryError, match="INGEST_MALFORMED"):
        codec.decompress(body)


@given(st.binary(max_size=400))
def test_rubbish_is_refused_with_a_code(message: bytes) -> None:
    with pytest.raises(SkerryError, match="INGEST_MALFORMED"):
        codec.parse(message)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.integers(0, 60))
def test_damaged_bodies_are_refused_or_the_same(position: int, bit: int, cut: int) -> None:
    """A flipped bit or a cut never crashes the decoder: refused, or decoded (and then the digest in the header tells)."""
    rows = [[i, i, i, i, 0.5] for i in range(20)]
    plain = bytearray(zstandard.ZstdDecompressor().decompress(encoded(PLAIN, rows)[1]))
    plain[position % len(plain)] ^= 1 << bit
    body = zstandard.ZstdCompressor().compress(bytes(plain[: len(plain) - cut]))
    try:
        assert decode(PLAIN, body, len(rows)).num_rows == len(rows)
    except SkerryError as refusal:
        code = refusal.code
        assert code == "INGEST_MALFORMED"


def header_with(**changes: Any) -> bytes:
    values = {**json.loads((WIRE_V1 / "rows.json").read_text())["header"], **changes}
    digests = {name: bytes.fromhex(values[name]) for name in ("hash_before", "hash_after", "body_sha256")}
    packed: bytes = msgpack.packb(list({**values, **digests}.values()), use_bin_type=True)
    return struct.pack("<H", len(packed)) + packed + bytes(64)


NO_TABLE_HOLDS: list[dict[str, Any]] = [
    {"rows": MAX_BATCH_ROWS + 1}, {"accepted_utc_us": 2**63}, {"device": "dev-x"}, {"kind": "order"}, {"seq": 0}, {"version": 2},
]  # fmt: skip


@pytest.mark.parametrize("changes", NO_TABLE_HOLDS)
def test_headers_that_no_table_could_hold_are_refused(changes: dict[str, Any]) -> None:
    assert codec.parse(header_with()).header.kind == "rows"
    with pytest.raises(SkerryError, match="INGEST_MALFORMED: header"):
        codec.parse(header_with(**changes))


def test_unknown_header_fields_of_a_newer_device_are_tolerated() -> None:
    message = header_with()
    length = struct.unpack_from("<H", message)[0]
    packed = msgpack.packb([*msgpack.unpackb(message[2 : 2 + length]), "later"], use_bin_type=True)
    assert codec.parse(struct.pack("<H", len(packed)) + packed + bytes(64)).header == codec.parse(message).header


@pytest.mark.parametrize("name", ["rows", "gap"])
def test_wire_bytes_of_version_1_parse_for_ever(name: str) -> None:
    message, told = (WIRE_V1 / f"{name}.bin").read_bytes(), json.loads((WIRE_V1 / f"{name}.json").read_text())
    frame = codec.parse(message)
    assert {key: value.hex() if isinstance(value, bytes) else value for key, value in frame.header.model_dump().items()} == told["header"]
    assert verify(bytes.fromhex(told["public_key"]), CONTEXT_BATCH, frame.signed, frame.signature)
    assert hashlib.sha256(frame.body).digest() == frame.header.body_sha256
    if name == "rows":
        schema = FeatureSchema.model_validate(told["schema"])
        assert schema.schema_id == frame.header.schema_id
        batch = decode(schema, frame.body, frame.header.rows)
        plain = batch.set_column(1, "event_utc", batch.column(1).cast(pa.int64()))
        assert [list(row.values()) for row in plain.to_pylist()] == told["rows"]
        after = codec.extend(frame.header.hash_before, codec.row_bytes(schema, columns_of(schema.columns, batch)))
        assert after == frame.header.hash_after


def test_the_device_side_imports_neither_numpy_nor_pyarrow() -> None:
    program = (
        "import sys, sync.codec as codec, sync.uplink.uplink\n"
        "from contracts.features import *\n"
        "more = (Column(name='a', type='bool'), Column(name='b', type='utf8', nullable=True))\n"
        "schema = FeatureSchema(family='f', columns=(*FRAME_COLUMNS, *more))\n"
        "columns = codec.columns_of(schema, [[1, 2, 3, True, None], [1, 2, 3, False, 'x']])\n"
        "assert codec.encode_body(schema, columns)\n"
        "assert not {'numpy', 'pyarrow', 'deltalake'} & set(sys.modules), 'too much'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
