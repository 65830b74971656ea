"""Tensors of the Open Inference Protocol as bytes, as JSON, and as numpy arrays. Pure.

BF16 has no numpy type: it is read as float32, which holds every BF16 value, and written by rounding to the nearest (ties to even).
BYTES elements are bytes of any length: on the wire each has its length before it, in JSON it is text (UTF-8).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from contracts.errors import error

Array = Any  # numpy.ndarray
DTYPES: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
OF_MANIFEST: Mapping[str, str] = {"f32": "FP32", "f16": "FP16", "i8": "INT8", "u8": "UINT8", "i32": "INT32", "i64": "INT64"}
DATATYPES = frozenset({*DTYPES, "BF16", "BYTES"})
MAX_DIMENSIONS = 32
MAX_ELEMENTS = 1 << 31
MAX_TEXTS = 1 << 16  # elements of BYTES, which are read one by one; no model here takes any
_LENGTH = struct.Struct("<I")
_JSON_KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}  # kind of the datatype -> kinds that JSON may bring
_BF16_ROUND = 0x7FFF


def shape_of(name: str, shape: Any) -> tuple[int, ...]:
    """Raises RejectedError OIP_TENSOR unless it is a list of sizes."""
    listed = isinstance(shape, Sequence) and not isinstance(shape, str)
    if listed and len(shape) > MAX_DIMENSIONS:
        raise error("OIP_TENSOR", name, f"more than {MAX_DIMENSIONS} dimensions")
    if not listed or not all(type(size) is int and size >= 0 for size in shape):
        raise error("OIP_TENSOR", name, "shape is a list of integers, none negative")
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:  # numpy multiplies the sizes beside a 0, too
        raise error("OIP_TENSOR", name, "the shape is too large")
    return tuple(shape)


def check_datatype(name: str, datatype: Any) -> str:
    """Raises RejectedError OIP_TENSOR."""
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise error("OIP_TENSOR", name, f"datatype {str(datatype)[:40]!r} is none of {', '.join(sorted(DATATYPES))}")
    return datatype


# -- bytes


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Array:
    """A view of `data` where the datatype allows it. Raises RejectedError OIP_TENSOR when the bytes are not those of this shape."""
    if datatype == "BYTES":
        return _objects(name, shape, _elements(name, data, _count_of_texts(name, shape)))
    dtype, wanted = _dtype_of_bytes(datatype), byte_size(datatype, shape)
    if len(data) != wanted:
        raise error("OIP_TENSOR", name, f"{len(data)} bytes of data, {datatype} {list(shape)} has {wanted}")
    array = np.frombuffer(data, dtype).reshape(shape)
    return _widened(array) if datatype == "BF16" else array


def byte_size(datatype: str, shape: tuple[int, ...]) -> int:
    """Of any datatype but BYTES, whose elements have sizes of their own."""
    return math.prod(shape) * int(_dtype_of_bytes(datatype).itemsize)


def _dtype_of_bytes(datatype: str) -> Any:
    return np.dtype("<u2" if datatype == "BF16" else DTYPES[datatype])


def to_bytes(datatype: str, array: Array) -> bytes:
    if datatype == "BYTES":
        return b"".join(_LENGTH.pack(len(element)) + element for element in array.ravel())
    if datatype == "BF16":
        return bytes(_narrowed(array).tobytes())
    return bytes(array.astype(DTYPES[datatype], copy=False).tobytes())


def to_buffer(datatype: str, array: Array) -> Any:
    """The same as something that `b"".join` takes: a view of the array where the datatype allows it."""
    if datatype not in DTYPES:
        return to_bytes(datatype, array)
    return np.ascontiguousarray(array, DTYPES[datatype]).reshape(-1).view("u1")


def _count_of_texts(name: str, shape: tuple[int, ...]) -> int:
    count = math.prod(shape)
    if count > MAX_TEXTS:
        raise error("OIP_TENSOR", name, f"{count} elements of BYTES, at most {MAX_TEXTS}")
    return count


def _elements(name: str, data: Any, count: int) -> list[bytes]:
    found, view, at = list[bytes](), memoryview(data), 0
    while at < len(view) and len(found) <= count:
        if at + _LENGTH.size > len(view):
            raise error("OIP_TENSOR", name, "the data end within an element's length")
        (length,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size + length
        if at > len(view):
            raise error("OIP_TENSOR", name, "the data end within an element")
        found.append(bytes(view[at - length : at]))
    return found


def _objects(name: str, shape: tuple[int, ...], elements: Sequence[bytes]) -> Array:
    if len(elements) != math.prod(shape):
        raise error("OIP_TENSOR", name, f"{len(elements)} elements of data, BYTES {list(shape)} has {math.prod(shape)}")
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def _widened(bits: Array) -> Array:
    return (bits.astype("<u4") << 16).view("<f4")


def _narrowed(array: Array) -> Array:
    """To the nearest, ties to even; NaN stays NaN."""
    values = np.ascontiguousarray(array, dtype="<f4")
    bits = values.view("<u4")
    rounded = ((bits.astype("<u8") + _BF16_ROUND + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.asarray((bits >> 16) | 0x40, dtype="<u2"), rounded)


# -- JSON


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Array:
    """`data` is nested as `shape` says, or flat in row-major order. Raises RejectedError OIP_TENSOR."""
    if not isinstance(data, list):
        raise error("OIP_TENSOR", name, "data is a list")
    if datatype == "BYTES":
        return _objects(name, shape, _texts(name, _flat(data)))
    dtype = np.dtype("<f4" if datatype == "BF16" else DTYPES[datatype])
    found = _found(name, data, dtype)
    if found.shape not in (shape, (math.prod(shape),)):
        raise error("OIP_TENSOR", name, f"data of shape {list(found.shape)[:8]}, the tensor has {list(shape)}")
    if found.size and found.dtype.kind not in _JSON_KINDS[dtype.kind]:
        raise error("OIP_TENSOR", name, f"an element is no {datatype}")
    return _cast(name, datatype, found, dtype).reshape(shape)


def to_json(datatype: str, array: Array) -> Any:
    """What orjson writes as a flat list, in row-major order."""
    if datatype == "BYTES":
        return [element.decode("utf-8", "replace") for element in array.ravel()]
    return array.ravel()


def _found(name: str, data: list[Any], dtype: Any) -> Array:
    """As numpy sees it, but for integers of 64 bits: with smaller ones beside them it would take them for floats."""
    if _has_text(data):
        raise error("OIP_TENSOR", name, f"an element is no {dtype.name}")
    try:
        found = np.array(data)
        if dtype.kind == "u" and found.dtype.kind in "fO" and all(type(element) is int for element in _flat(data)):
            return np.array(data, dtype)
    except (ValueError, OverflowError) as unfit:
        raise error("OIP_TENSOR", name, "data are lists of equal lengths, of values that the datatype holds") from unfit
    return found


def _has_text(data: list[Any]) -> bool:
    """One long text among numbers, and numpy would give each of them as much room."""
    lists = [data]
    while lists:
        one = lists.pop()
        kinds = set(map(type, one))
        if str in kinds:
            return True
        if list in kinds:
            lists += [element for element in one if type(element) is list]
    return False


def _cast(name: str, datatype: str, found: Array, dtype: Any) -> Array:
    """Raises RejectedError OIP_TENSOR for a value that the datatype does not hold."""
    with np.errstate(over="ignore"):
        array = found.astype(dtype, copy=False)
    holds = np.isfinite(array).all() if dtype.kind == "f" else (array == found).all()
    if not holds:
        raise error("OIP_TENSOR", name, f"a value is outside of {datatype}")
    return _widened(_narrowed(array)) if datatype == "BF16" else array


def _flat(data: list[Any]) -> Iterator[Any]:
    """Not by recursion: JSON nests deeper than Python's stack."""
    open_lists = [iter(data)]
    while open_lists:
        for element in open_lists[-1]:
            if isinstance(element, list):
                open_lists.append(iter(element))
                break
            yield element
        else:
            open_lists.pop()


def _texts(name: str, elements: Iterable[Any]) -> list[bytes]:
    found = []
    for element in elements:
        if not isinstance(element, str):
            raise error("OIP_TENSOR", name, "an element of BYTES is text in JSON")
        found.append(element.encode("utf-8", "surrogatepass"))
    return found
