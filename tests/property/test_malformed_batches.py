"""Whatever arrives on an up topic: refused, held, or quarantined with its reason; bounded in memory, and never another exception."""

from __future__ import annotations

import struct
import tracemalloc
from functools import cache

import msgpack
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from contracts import topics
from contracts.batch import LEDGER_START, BatchHeader
from contracts.canonical import CONTEXT_BATCH
from contracts.errors import SkerryError
from sync import codec
from sync.ingest.arrow import arrow_schema
from sync.ingest.intake import Batch, admit
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.row_path import DEVICE, DEVICE_KEY, DIGEST, SCHEMA, rows

TOPIC = topics.up(DEVICE, "live")
REFUSED = ("INGEST_MALFORMED", "INGEST_IDENTITY", "INGEST_SIGNATURE")
HELD = ("INGEST_DEVICE_UNKNOWN", "INGEST_SCHEMA_UNKNOWN")
QUARANTINED = ("INGEST_MALFORMED", "INGEST_LEDGER")
BOMB_BYTES = 512 * 1024 * 1024


@cache
def registry() -> SimulatedRegistry:
    registry = SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    registry.learn(SCHEMA)
    return registry


@cache
def honest() -> tuple[BatchHeader, bytes]:
    columns = codec.columns_of(SCHEMA, rows(0, 20))
    body = codec.encode_body(SCHEMA, columns)
    header = BatchHeader(
        kind="rows", device=DEVICE, lane="live", epoch="0" * 16, seq=1, last_seq=1, rows=20, schema_id=SCHEMA.schema_id,
        bundle_digest=DIGEST,
        accepted_utc_us=1, boot_id="b", key_id=DEVICE_KEY.key_id, hash_before=LEDGER_START,
        hash_after=codec.extend(LEDGER_START, codec.row_bytes(SCHEMA, columns)), body_sha256=codec.body_digest(body),
    )  # fmt: skip
    return header, body


def signed(body: bytes, **fields: object) -> bytes:
    """A device that lies or is broken: its signature is good, what it says is not."""
    packed = codec.pack_header(honest()[0].model_copy(update={"body_sha256": codec.body_digest(body), **fields}))
    return codec.frame(packed, body, DEVICE_KEY.sign(CONTEXT_BATCH, packed))


def verdict(message: bytes) -> str:
    """`ok`, `refused CODE` or `quarantined CODE`; any other exception fails the test."""
    try:
        batch: Batch = admit(TOPIC, message, registry())
    except SkerryError as refused:
        return f"refused {refused.code}"
    return f"quarantined {batch.fault.code}" if batch.fault else "ok"


def arrow_body(compression: str | None, repeated: int) -> bytes:
    """A record batch of the right schema, with Arrow's own compression inside the zstd frame that the wire has anyway."""
    schema = arrow_schema(SCHEMA.columns)
    columns = [pa.array([0] * repeated, field.type) for field in schema]
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, schema, options=options) as stream:
        stream.write_batch(pa.record_batch(columns, schema=schema))
    data = sink.getvalue().to_pybytes()
    message = data[8 + struct.unpack_from("<i", data, 4)[0] :]
    return zstandard.ZstdCompressor().compress(message)


# -- bombs


def bomb(claims: bool) -> bytes:
    """A few KiB that become half a gigabyte; with the size in the frame's header, or without it."""
    compressor = zstandard.ZstdCompressor(write_content_size=claims).compressobj(size=BOMB_BYTES if claims else -1)
    return b"".join([compressor.compress(bytes(1 << 20)) for _ in range(BOMB_BYTES >> 20)]) + compressor.flush()


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_bomb_inside_the_arrow_message_is_not_unpacked(compression: str) -> None:
    """The frame around it is small and honest; unpacked by pyarrow it would take as much memory as it likes."""
    body = arrow_body(compression, 100_000)
    assert len(body) < 200 * 1024
    batch = admit(TOPIC, signed(body, rows=1000), registry())
    assert batch.fault is not None
    assert (batch.fault.code, batch.rows) == ("INGEST_MALFORMED", None)
    assert "its buffers are compressed" in batch.fault.detail, "seen before anything was unpacked"


def test_an_uncompressed_message_of_the_same_rows_is_read() -> None:
    """So that the test above refuses for the compression and for nothing else."""
    body = arrow_body(None, 20)
    assert verdict(signed(body, rows=20)) == "quarantined INGEST_LEDGER", "decoded; only the hash is another"


@pytest.mark.parametrize("claims", [True, False])
def test_a_zstd_bomb_takes_no_more_than_its_bound(claims: bool) -> None:
    body = bomb(claims)
    tracemalloc.start()
    try:
        assert verdict(signed(body)) == "quarantined INGEST_MALFORMED"
        assert tracemalloc.get_traced_memory()[1] < 2 * codec.MAX_BODY_DECODED_BYTES
    finally:
        tracemalloc.stop()


def test_a_frame_that_lies_about_its_size_is_malformed() -> None:
    """Declared 100 bytes, holds 5 MB: the declared size is the bound."""
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(100)))
    long = zstandard.ZstdCompressor().compress(bytes(5_000_000))
    assert verdict(signed(bytes(frame[:6]) + long[9:])) == "quarantined INGEST_MALFORMED"


# -- headers that ask for trouble


@pytest.mark.parametrize(
    "fields",
    [
        {"schema_id": "../devices?since=0"}, {"schema_id": "0" * 16 + "\r\nX: y"}, {"rows": -1}, {"rows": 2**62}, {"shed_bytes": -5},
        {"lane": "../live"}, {"epoch": "x"}, {"device": "dev-x"}, {"boot_id": "b" * 1500}, {"reason": "r" * 1500}, {"seq": -1},
    ],
)  # fmt: skip
def test_a_header_with_hostile_fields_is_refused(fields: dict[str, object]) -> None:
    asked = list(registry().asked)
    assert verdict(signed(honest()[1], **fields)) in {f"refused {code}" for code in REFUSED}
    assert registry().asked == asked, "nothing of it went into a request to the control plane"


def test_the_honest_batch_is_taken() -> None:
    assert verdict(signed(honest()[1])) == "ok"


# -- damage


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 300), tail=st.binary(max_size=20))
def test_a_batch_that_was_damaged_on_the_way_is_refused_or_held(position: int, byte: int, cut: int, tail: bytes) -> None:
    whole = signed(honest()[1])
    message = bytearray(whole)
    message[position % len(message)] = byte
    damaged = bytes(message[: len(message) - cut]) + tail
    expected = {f"refused {code}" for code in (*REFUSED, *HELD)}
    assert verdict(damaged) in (expected if damaged != whole else {"ok"})


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 300), tail=st.binary(max_size=20))
def test_a_body_that_its_own_device_broke_is_quarantined_or_the_same(position: int, byte: int, cut: int, tail: bytes) -> None:
    plain = bytearray(zstandard.ZstdDecompressor().decompress(honest()[1]))
    plain[position % len(plain)] = byte
    body = zstandard.ZstdCompressor().compress(bytes(plain[: len(plain) - cut]) + tail)
    assert verdict(signed(body)) in {"ok", *(f"quarantined {code}" for code in QUARANTINED)}


@given(st.binary(max_size=300))
def test_any_bytes_as_a_signed_body_are_quarantined(body: bytes) -> None:
    assert verdict(signed(body)) == "quarantined INGEST_MALFORMED"


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=5) | st.floats(), lambda inner: st.lists(inner, max_size=20), max_leaves=30)
)
def test_any_msgpack_as_a_header_is_refused(value: object) -> None:
    try:
        packed = msgpack.packb(value, use_bin_type=True)
    except OverflowError:
        return
    framed = struct.pack("<H", len(packed)) + packed
    message = codec.frame(framed, b"", DEVICE_KEY.sign(CONTEXT_BATCH, framed))
    assert verdict(message) in {f"refused {code}" for code in REFUSED}
