"""Inference requests and responses of gRPC. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from contracts.errors import error
from edge_agent.inference.oip import open_inference_pb2 as pb
from edge_agent.inference.oip.datatypes import (
    MAX_ELEMENTS,
    Array,
    check_datatype,
    from_bytes,
    from_json,
    shape_of,
    to_buffer,
    to_bytes,
)  # fmt: skip
from edge_agent.inference.oip.request import (
    INPUT_PARAMETERS,
    OUTPUT_PARAMETERS,
    InferRequest,
    InputTensor,
    Part,
    WantedOutput,
    check_few,
    count_of,
    known,
    part_of,
    scheduling,
)  # fmt: skip
from edge_agent.inference.oip.rest_codec import REMEMBERED_BYTES, REMEMBERED_HEADS, OutputTensor
from processing.wire_form import fields

M = TypeVar("M", bound=Message)
SMALL_BYTES, MAX_FIELDS = 64 * 1024, 1024

# datatype -> the list of InferTensorContents that holds it
_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_LENGTH_DELIMITED = 2
_TENSORS = (pb.ModelInferRequest.INPUTS_FIELD_NUMBER, pb.ModelInferRequest.OUTPUTS_FIELD_NUMBER)
_RAW_INPUT = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_RAW_OUTPUT = bytes([pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED])


def read(kind: type[M], data: bytes) -> M:
    """A message from its bytes. Raises RejectedError OIP_REQUEST.

    An empty field takes two bytes there and a hundred once it is read: millions of them would take all memory and everybody's time.
    """
    try:
        if len(data) > SMALL_BYTES and next(islice(fields(memoryview(data), 0, len(data)), MAX_FIELDS, None), None):
            raise error("OIP_REQUEST", "", f"more than {MAX_FIELDS} fields")
        message: M = kind.FromString(data)
    except (ValueError, DecodeError) as broken:
        raise error("OIP_REQUEST", "", "the message cannot be read") from broken
    return message


# -- inference requests


class Inference(NamedTuple):
    """A ModelInferRequest; its raw tensors are views of the bytes that came."""

    head: Head
    raw: tuple[memoryview, ...]


class Head:
    """A ModelInferRequest without raw tensors. Reading more of it than the model's name waits until the model is known."""

    def __init__(self, data: bytes) -> None:
        """Raises RejectedError OIP_REQUEST."""
        self._message = read(pb.ModelInferRequest, data)
        self.model_name, self.model_version = self._message.model_name, self._message.model_version

    @cached_property
    def request(self) -> InferRequest:
        """Without inputs. Raises RejectedError OIP_REQUEST, OIP_PARAMETER."""
        check_few(self._message.outputs, "outputs")
        timeout_us, low_priority = scheduling(values_of(self._message.parameters))
        return InferRequest(self._message.id, timeout_us, low_priority, (), tuple(_wanted(output) for output in self._message.outputs))

    @cached_property
    def specs(self) -> tuple[_Spec, ...]:
        """Raises RejectedError OIP_REQUEST, OIP_TENSOR, OIP_PARAMETER."""
        check_few(self._message.inputs, "inputs")
        return tuple(_spec(tensor) for tensor in self._message.inputs)


class _Spec(NamedTuple):
    """An input as the head says it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    part: Part | None
    contents: Any  # None without any


def read_inference(data: bytes) -> Inference:
    """Raises RejectedError OIP_REQUEST."""
    known = _remembered.get(len(data))
    if known is not None and data.startswith(known.prefix):
        return Inference(known.head, (memoryview(data)[len(known.prefix) :],))
    return _cut(data)


class _Remembered(NamedTuple):
    """Of a message whose raw tensor is its end. What has the same length and begins alike, up to that tensor's length, reads alike."""

    prefix: bytes
    head: Head


_remembered: dict[int, _Remembered] = {}  # by the length of the whole message


def _remember(head: Head, data: bytes, prefix_bytes: int) -> None:
    if len(_remembered) >= REMEMBERED_HEADS:
        _remembered.clear()
    _remembered[len(data)] = _Remembered(data[:prefix_bytes], head)


def forget() -> None:
    """What was remembered of earlier messages; nothing reads differently after it."""
    _remembered.clear()
    _remembered_head.cache_clear()


def _cut(data: bytes) -> Inference:
    """Raw tensors are views of the bytes: the message's own methods would copy each twice. Raises RejectedError OIP_REQUEST."""
    view, raw, head, at = memoryview(data), list[memoryview](), list[memoryview](), 0
    try:
        for count, field in enumerate(fields(view, 0, len(view)), 1):
            if count > MAX_FIELDS:
                raise error("OIP_REQUEST", "", f"more than {MAX_FIELDS} fields")
            if field.number == _RAW_INPUT:
                raw.append(view[field.start : field.end])
            else:
                head.append(view[at : field.end])
            at, last = field.end, field
        text = b"".join(head)
        if len(text) > REMEMBERED_BYTES:
            _check_tensors(memoryview(text))
    except ValueError as broken:
        raise error("OIP_REQUEST", "", "the message cannot be read") from broken
    small = bool(raw) and len(text) <= REMEMBERED_BYTES
    inference = Inference(_remembered_head(text) if small else Head(text), tuple(raw))
    if small and len(raw) == 1 and last.number == _RAW_INPUT:
        _remember(inference.head, data, last.start)
    return inference


def _check_tensors(head: memoryview) -> None:
    """Raises RejectedError OIP_REQUEST for more fields within inputs and outputs than any has use for, mostly parameters; ValueError for
    what are no fields.
    """
    count = 0
    for field in fields(head, 0, len(head)):
        if field.number in _TENSORS:
            count += sum(1 for _ in islice(fields(head, field.start, field.end), MAX_FIELDS + 1))
            if count > MAX_FIELDS:
                raise error("OIP_REQUEST", "", f"more than {MAX_FIELDS} fields of tensors")


@lru_cache(REMEMBERED_HEADS)
def _remembered_head(data: bytes) -> Head:
    """A client that sends raw tensors mostly sends the same head again."""
    return Head(data)


def parse(inference: Inference, most_elements: int = MAX_ELEMENTS) -> InferRequest:
    """`most_elements`: of a tensor that is not raw. Raises RejectedError OIP_REQUEST, OIP_TENSOR, OIP_PARAMETER."""
    head, raw = inference
    left = iter(raw)
    inputs = tuple(_input(spec, left, bool(raw), most_elements) for spec in head.specs)
    if next(left, None) is not None:
        raise error("OIP_REQUEST", "raw_input_contents", "more of them than inputs")
    return head.request.asking(inputs)


def values_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values; a parameter without one is refused as what it is: nothing. Raises RejectedError OIP_PARAMETER."""
    found = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise error("OIP_PARAMETER", name[:64], "it has no value")
        found[name] = getattr(parameter, choice)
    return found


def _spec(tensor: Any) -> _Spec:
    name, datatype, shape = tensor.name, check_datatype(tensor.name, tensor.datatype), shape_of(tensor.name, tensor.shape)
    parameters = values_of(tensor.parameters)
    known(parameters, INPUT_PARAMETERS, "input")
    return _Spec(name, datatype, shape, part_of(parameters), tensor.contents if tensor.contents.ListFields() else None)


def _input(spec: _Spec, raw: Iterator[memoryview], all_raw: bool, most_elements: int) -> InputTensor:
    name, datatype, shape, part, contents = spec
    if (part is not None or all_raw) and contents is not None:
        raise error("OIP_TENSOR", name, "an input has its data in exactly one place: contents, raw_input_contents or shared memory")
    if part is not None:
        return InputTensor(name, datatype, shape, None, part)
    if all_raw:
        return InputTensor(name, datatype, shape, from_bytes(name, datatype, shape, _next(raw, name)))
    if math.prod(shape) > most_elements:
        raise error("OIP_TENSOR", name, f"shape {list(shape)} has more than the model's {most_elements} elements")
    return InputTensor(name, datatype, shape, _contents(name, datatype, shape, contents))


def _next(raw: Iterator[memoryview], name: str) -> memoryview:
    data = next(raw, None)
    if data is None:
        raise error("OIP_REQUEST", name, "raw_input_contents has fewer entries than there are inputs")
    return data


def _contents(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Array:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise error("OIP_TENSOR", name, f"{datatype} travels in raw_input_contents")
    if contents is not None and any(len(value) for other, value in contents.ListFields() if other.name != field):
        raise error("OIP_TENSOR", name, f"{datatype} travels in {field}")
    values = () if contents is None else getattr(contents, field)
    if len(values) != math.prod(shape):
        raise error("OIP_TENSOR", name, f"{len(values)} elements in {field}, the shape has {math.prod(shape)}")
    if datatype == "BYTES":
        return from_bytes(name, datatype, shape, to_bytes("BYTES", np.array([*values, b""], dtype=object)[:-1]))
    return from_json(name, datatype, shape, list(values))


def _wanted(output: Any) -> WantedOutput:
    parameters = values_of(output.parameters) if output.parameters else {}
    known(parameters, OUTPUT_PARAMETERS, "output")
    return WantedOutput(output.name, True, count_of(parameters, "classification"), part_of(parameters))


def render(model: str, version: str, request_id: str, outputs: Sequence[OutputTensor]) -> bytes:
    """The message ModelInferResponse, serialised. Outputs are raw, but for those that lie in shared memory.

    Raw outputs are put behind the rest, straight from the array: messages one after the other are read as one (protobuf.dev, Encoding,
    "Last One Wins"), and the message's own methods would copy each tensor three times.
    """
    raw: list[Any] = []
    for output in outputs:
        if output.part is None:
            data = to_buffer(output.datatype, output.values)
            raw += (_RAW_OUTPUT, _varint(len(data)), data)
    identity = pb.ModelInferResponse(id=request_id).SerializeToString() if request_id else b""
    described = _described(
        model, version, tuple([OutputTensor(one.name, one.datatype, one.shape, None, False, one.part) for one in outputs])
    )
    return b"".join((described, identity, *raw))


@lru_cache(REMEMBERED_HEADS)
def _described(model: str, version: str, outputs: tuple[OutputTensor, ...]) -> bytes:
    """A response without its id and values: a client mostly asks for the same again."""
    response = pb.ModelInferResponse(model_name=model, model_version=version)
    for output in outputs:
        tensor = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if output.part is not None:
            tensor.parameters["shared_memory_region"].string_param = output.part.region
            tensor.parameters["shared_memory_offset"].int64_param = output.part.offset
            tensor.parameters["shared_memory_byte_size"].int64_param = output.part.byte_size
    return bytes(response.SerializeToString())


def _varint(value: int) -> bytes:
    """protobuf.dev, Encoding, "Base 128 Varints"."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
