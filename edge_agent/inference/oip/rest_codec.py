"""Inference requests and responses of REST: JSON, and the binary tensor extension. Pure.

With binary tensors a body is JSON of `Inference-Header-Content-Length` bytes, then the tensors' bytes in the order of the JSON.
A length of 0 means that the whole body is the model's one input, in its own shape.

JSON is orjson's: it reads numbers in a quarter of the standard library's time, and writes a float32 in its own few digits, from the array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from contracts.errors import error
from edge_agent.inference.oip.datatypes import Array, check_datatype, from_bytes, from_json, shape_of, to_buffer, to_json
from edge_agent.inference.oip.request import (
    INPUT_PARAMETERS,
    OUTPUT_PARAMETERS,
    InferRequest,
    InputTensor,
    Part,
    Signature,
    WantedOutput,
    check_few,
    count_of,
    flag_of,
    known,
    part_of,
    scheduling,
)  # fmt: skip

_NO_BYTES = memoryview(b"")
REMEMBERED_HEADS, REMEMBERED_BYTES = 64, 4096


class OutputTensor(NamedTuple):
    """`part`: the bytes have been written there; `values` is None then."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Array
    binary: bool = False
    part: Part | None = None


class Body(NamedTuple):
    """`json_bytes` is the length of the JSON when tensors follow it, else None. The tensors may be views of the outputs."""

    pieces: tuple[Any, ...]
    json_bytes: int | None


class _Spec(NamedTuple):
    """An input as the JSON says it; its values are elsewhere, or in `data`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    part: Part | None
    byte_size: int
    data: Any


class _Head(NamedTuple):
    request: InferRequest  # without inputs
    specs: tuple[_Spec, ...]


# -- requests


def parse(body: bytes, json_bytes: int | None) -> InferRequest:
    """`json_bytes`: of the header Inference-Header-Content-Length. Raises RejectedError OIP_REQUEST, OIP_TENSOR, OIP_PARAMETER."""
    if json_bytes is None:
        head, binary = _head(body), _NO_BYTES
    elif 0 < json_bytes <= len(body):
        text, binary = body[:json_bytes], memoryview(body)[json_bytes:]
        head = _remembered_head(text) if json_bytes <= REMEMBERED_BYTES else _head(text)
    else:
        raise error("OIP_REQUEST", "Inference-Header-Content-Length", f"{json_bytes}, of {len(body)} bytes")
    return head.request.asking(_inputs(head.specs, binary))


def parse_raw(body: bytes, wanted: Signature) -> InferRequest:
    """The whole body is the input, the output is wanted in binary. Raises RejectedError OIP_TENSOR."""
    values = from_bytes(wanted.name, wanted.datatype, wanted.shape, body)
    return InferRequest("", 0, False, (InputTensor(wanted.name, wanted.datatype, wanted.shape, values),), (), True)


def json_object(data: bytes) -> dict[str, Any]:
    """Raises RejectedError OIP_REQUEST. NaN and Infinity are no JSON."""
    try:
        message = orjson.loads(data)
    except ValueError as broken:
        raise error("OIP_REQUEST", "", f"the body is no JSON: {str(broken)[:80]}") from broken
    if not isinstance(message, dict):
        raise error("OIP_REQUEST", "", "the body is a JSON object")
    return message


def _head(text: bytes) -> _Head:
    message = json_object(text)
    parameters = _parameters(message, "request")
    timeout_us, low_priority = scheduling(parameters)
    binary = flag_of(parameters, "binary_data_output")
    outputs = tuple(_wanted(one, binary) for one in _objects(message, "outputs"))
    request = InferRequest(_text(message, "id"), timeout_us, low_priority, (), outputs, binary)
    return _Head(request, tuple(_spec(one) for one in _objects(message, "inputs")))


@lru_cache(REMEMBERED_HEADS)
def _remembered_head(text: bytes) -> _Head:
    """A client that sends tensors in binary mostly sends the same JSON again."""
    return _head(text)


def _spec(tensor: Mapping[str, Any]) -> _Spec:
    name = _text(tensor, "name")
    datatype, shape = check_datatype(name, tensor.get("datatype")), shape_of(name, tensor.get("shape"))
    parameters = _parameters(tensor, "input")
    known(parameters, INPUT_PARAMETERS, "input")
    part, size = part_of(parameters), count_of(parameters, "binary_data_size")
    if (part is not None) + ("binary_data_size" in parameters) + ("data" in tensor) != 1:
        raise error("OIP_TENSOR", name, "an input has its data in exactly one place: data, binary_data_size or shared_memory_region")
    return _Spec(name, datatype, shape, part, size, tensor.get("data"))


def _inputs(specs: Sequence[_Spec], binary: memoryview) -> tuple[InputTensor, ...]:
    inputs, at = [], 0
    for spec in specs:
        inputs.append(_input(spec, binary[at : at + spec.byte_size]))
        at += spec.byte_size
    if at != len(binary):
        raise error("OIP_REQUEST", "", f"{len(binary)} bytes follow the JSON, the inputs name {at}")
    return tuple(inputs)


def _input(spec: _Spec, binary: memoryview) -> InputTensor:
    name, datatype, shape, part, size, data = spec
    if part is not None:
        return InputTensor(name, datatype, shape, None, part)
    if data is not None:
        return InputTensor(name, datatype, shape, from_json(name, datatype, shape, data))
    if size != len(binary):
        raise error("OIP_REQUEST", name, f"binary_data_size {size}, {len(binary)} bytes are left of the body")
    return InputTensor(name, datatype, shape, from_bytes(name, datatype, shape, binary))


def _wanted(output: Mapping[str, Any], binary_by_default: bool) -> WantedOutput:
    parameters = _parameters(output, "output")
    known(parameters, OUTPUT_PARAMETERS, "output")
    binary = flag_of(parameters, "binary_data", binary_by_default)
    return WantedOutput(_text(output, "name"), binary, count_of(parameters, "classification"), part_of(parameters))


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key, "")
    if not isinstance(value, str):
        raise error("OIP_REQUEST", key, "it is text")
    return value


def _objects(message: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = message.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise error("OIP_REQUEST", key, "it is a list of objects")
    check_few(value, key)
    return value


def _parameters(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    value = message.get("parameters", {})
    if not isinstance(value, dict):
        raise error("OIP_REQUEST", f"parameters of a {where}", "they are an object")
    return value


# -- responses


def render(model: str, version: str, request_id: str, outputs: Sequence[OutputTensor]) -> Body:
    binary: list[Any] = []
    message: dict[str, Any] = {"model_name": model, "model_version": version}
    if request_id:
        message["id"] = request_id
    message["outputs"] = [_rendered(output, binary) for output in outputs]
    text = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
    return Body((text, *binary), len(text) if binary else None)


def _rendered(output: OutputTensor, binary: list[Any]) -> dict[str, Any]:
    """The tensor's JSON; its bytes, if it has some, are added to `binary`."""
    tensor: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
    if output.part is not None:
        region, offset, size = output.part
        tensor["parameters"] = {"shared_memory_region": region, "shared_memory_offset": offset, "shared_memory_byte_size": size}
    elif output.binary:
        binary.append(to_buffer(output.datatype, output.values))
        tensor["parameters"] = {"binary_data_size": len(binary[-1])}
    else:
        tensor["data"] = to_json(output.datatype, output.values)
    return tensor
