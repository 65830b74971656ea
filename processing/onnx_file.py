"""Which tensors an ONNX file leaves to other files. Read from protobuf's wire form: the builder and every backend ask the same, and a
board needs no library for it.

What lies outside the file is outside its digest, and its path would be followed by whoever loads the model. Field numbers: onnx.proto of
ONNX 1.x, where they never change; wire form: protobuf's "Encoding". Python 3.8-clean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Union

Buffer = Union[bytes, memoryview]

# message -> field number -> the message in it; what is not named here holds no tensor
_WITHIN = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10
_MAX_KEY = 0xFFFFFFFF  # onnxruntime's protobuf drops what is above: field 13 could call itself another one here and be field 13 there


class _Field(NamedTuple):
    number: int
    value: int  # of a varint, else 0
    start: int  # of its bytes
    end: int


def external_tensors(model: Buffer) -> list[str]:
    """Names of the tensors whose values the file does not hold. Raises ValueError when it is cut short or is no protobuf."""
    data, found = memoryview(model), []
    todo = [("Model", 0, len(data))]  # not by recursion: a hostile file nests as deep as it likes
    while todo:
        message, start, end = todo.pop()
        fields = list(_fields(data, start, end))
        if message == "Tensor" and any(_leaves_the_file(field) for field in fields):
            found.append(_name(data, fields))
        within = _WITHIN[message]
        todo += [(within[field.number], field.start, field.end) for field in fields if field.number in within]
    return found


def _leaves_the_file(field: _Field) -> bool:
    return field.number == _EXTERNAL_DATA or (field.number == _DATA_LOCATION and field.value != 0)


def _name(data: memoryview, fields: list[_Field]) -> str:
    names = [bytes(data[field.start : field.end]).decode(errors="replace") for field in fields if field.number == _TENSOR_NAME]
    return names[-1] if names else ""


def _fields(data: memoryview, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        key, at = _varint(data, at, end)
        if key > _MAX_KEY:
            raise ValueError(f"no field has such a number, at byte {at}")
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            start = at
            value, at = _varint(data, at, end)
            yield _Field(number, value, start, at)
            continue
        size, at = _varint(data, at, end) if kind == _BYTES else (_WIDTH.get(kind, -1), at)
        if size < 0 or at + size > end:
            raise ValueError(f"cut short, or no protobuf, at byte {at}")
        yield _Field(number, 0, at, at + size)
        at += size


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends)"""
    value = 0
    for place, byte in enumerate(data[at : min(at + _MAX_VARINT_BYTES, end)]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError(f"cut short, or no protobuf, at byte {at}")
