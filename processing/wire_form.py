"""The fields of a protobuf message as they lie in its bytes, whatever they mean. Form: protobuf's "Encoding". Python 3.8-clean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10
_MAX_KEY = 0xFFFFFFFF  # onnxruntime's protobuf drops what is above: field 13 could call itself another one here and be field 13 there


class Field(NamedTuple):
    number: int
    value: int  # of a varint, else 0
    start: int  # of its bytes
    end: int


def fields(data: memoryview, at: int, end: int) -> Iterator[Field]:
    """Raises ValueError where the bytes from `at` to `end` are cut short or are no message."""
    while at < end:
        key, at = _varint(data, at, end)
        if key > _MAX_KEY:
            raise ValueError(f"no field has such a number, at byte {at}")
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            start = at
            value, at = _varint(data, at, end)
            yield Field(number, value, start, at)
            continue
        size, at = _varint(data, at, end) if kind == _BYTES else (_WIDTH.get(kind, -1), at)
        if size < 0 or at + size > end:
            raise ValueError(f"cut short, or no protobuf, at byte {at}")
        yield Field(number, 0, at, at + size)
        at += size


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends)"""
    if at < end and data[at] < 0x80:  # most are of one byte
        return data[at], at + 1
    value = 0
    for place, byte in enumerate(data[at : min(at + _MAX_VARINT_BYTES, end)]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError(f"cut short, or no protobuf, at byte {at}")
