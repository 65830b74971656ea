"""An Arrow record batch message of plain columns, written as bytes. PURE.

What a device sends is always of one form, so its metadata are three blocks whose fields have fixed places: no Arrow library is needed on
a board (nanoarrow takes 2.5 MB of the agent's 60). Form: Arrow's "Encapsulated message format", its metadata a FlatBuffer of
Message.fbs; tests read it with pyarrow and with nanoarrow.

    0xFFFFFFFF | length of the metadata (i32) | metadata | body: each buffer from a multiple of 8 bytes on
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

_CONTINUATION = 0xFFFFFFFF
_VERSION_5, _RECORD_BATCH = 4, 3  # Message.version, Message.header_type
# Offsets are counted from where they stand; a table says how far before it its vtable lies, and a vtable where in its table each field
# stands. Long integers stand at multiples of 8.
_HEAD = struct.Struct(
    "<I"  # 0   where Message is
    "HHHHHH"  # 4   its vtable: own size, Message's size; version, header_type, header, bodyLength
    "iHBxI4xq"  # 16  Message: back to the vtable; version, header_type, header, bodyLength
    "HHHHH2x"  # 40  vtable of RecordBatch: own size, RecordBatch's size; length, nodes, buffers
    "iqII4x"  # 52  RecordBatch: back to the vtable; length, nodes, buffers
    "I"  # 76  how many nodes; they follow, then 4 bytes of nothing, how many buffers, and these
)
_PAIR = struct.Struct("<qq")  # a node: length, nulls; a buffer: offset, length
_COUNT = struct.Struct("<4xI")
_PREFIX = struct.Struct("<II")


class Array(NamedTuple):
    """One column. `buffers`: validity bitmap (b"" where nothing is null), offsets if its values have lengths of their own, values."""

    nulls: int
    buffers: Sequence[bytes]


def message(rows: int, arrays: Sequence[Array]) -> bytes:
    buffers = [buffer for array in arrays for buffer in array.buffers]
    padded = [-(-len(buffer) // 8) * 8 for buffer in buffers]
    nodes = b"".join(_PAIR.pack(rows, array.nulls) for array in arrays)
    places = b"".join(map(_PAIR.pack, accumulate(padded, initial=0), map(len, buffers)))
    head = _head(rows, sum(padded), len(arrays), len(nodes))
    metadata = b"".join((head, nodes, _COUNT.pack(len(buffers)), places))
    return b"".join((_PREFIX.pack(_CONTINUATION, len(metadata)), metadata, *_filled(buffers, padded)))


def _head(rows: int, body_bytes: int, arrays: int, nodes_bytes: int) -> bytes:
    return _HEAD.pack(
        16, 12, 24, 4, 6, 8, 16,
        12, _VERSION_5, _RECORD_BATCH, 52 - 24, body_bytes,
        10, 20, 4, 12, 16,
        12, rows, 76 - 64, 84 - 68 + nodes_bytes,
        arrays,
    )  # fmt: skip


def _filled(buffers: Sequence[bytes], padded: Sequence[int]) -> Iterator[bytes]:
    for buffer, size in zip(buffers, padded):
        yield buffer
        yield bytes(size - len(buffer))
