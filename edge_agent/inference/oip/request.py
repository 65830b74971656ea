"""What a request for an inference says, whether it came by REST or gRPC; and what the front may ask of a model. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contracts.errors import error
from edge_agent.inference.oip.datatypes import DTYPES, OF_MANIFEST, Array, byte_size

MAX_TIMEOUT_US = 3_600_000_000
MAX_TENSORS = 64  # that a request may name, inputs and outputs each: no model here has more than one
JSON_BYTES, JSON_BYTES_PER_ELEMENT = 64 * 1024, 64  # of a request: a number of 25 digits, well indented
PARAMETERS = frozenset({"timeout", "priority", "binary_data_output"})
INPUT_PARAMETERS = frozenset({"binary_data_size", "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"})
OUTPUT_PARAMETERS = frozenset({"binary_data", "classification"} | INPUT_PARAMETERS - {"binary_data_size"})


class Part(NamedTuple):
    """A piece of a registered shared memory region."""

    region: str
    offset: int
    byte_size: int


class InputTensor(NamedTuple):
    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Array  # None when `part` has them
    part: Part | None = None


class WantedOutput(NamedTuple):
    name: str
    binary: bool = False
    classes: int = 0  # more than 0: the so many largest elements, as text
    part: Part | None = None


class InferRequest(NamedTuple):
    id: str
    timeout_us: int  # 0: the front's own limit
    low_priority: bool
    inputs: tuple[InputTensor, ...]
    outputs: tuple[WantedOutput, ...]  # () means all
    binary: bool = False  # of outputs that are not named

    def asking(self, inputs: tuple[InputTensor, ...]) -> InferRequest:
        """With these inputs; `_replace` would take four times as long."""
        return InferRequest(self.id, self.timeout_us, self.low_priority, inputs, self.outputs, self.binary)


class Signature(NamedTuple):
    """A tensor of a model, in the protocol's words."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Signature:
        """`spec`: name, dtype, shape of the manifest."""
        return cls(str(spec["name"]), OF_MANIFEST[spec["dtype"]], tuple(int(size) for size in spec["shape"]))

    @property
    def dtype(self) -> str:
        return DTYPES[self.datatype]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def check_json(self, size: int) -> None:
        """What lists of lists take in memory is many times their text, so more text than this tensor needs is not read.

        Raises RejectedError OIP_TOO_LARGE.
        """
        limit = JSON_BYTES + JSON_BYTES_PER_ELEMENT * self.elements
        if size > limit:
            raise error("OIP_TOO_LARGE", f"{size} bytes of JSON", f"at most {limit} for an input of {self.elements} elements")


def scheduling(parameters: Mapping[str, Any]) -> tuple[int, bool]:
    """(timeout in us, low priority). Priority 0 is the default and 1 the highest; all above 1 is low. Raises OIP_PARAMETER."""
    known(parameters, PARAMETERS, "request")
    timeout_us, priority = (count_of(parameters, name) for name in ("timeout", "priority"))
    return min(timeout_us, MAX_TIMEOUT_US), priority > 1


def known(parameters: Mapping[str, Any], names: frozenset[str], where: str) -> None:
    """A parameter that is not understood is refused: the answer would not be what was asked for. Raises RejectedError OIP_PARAMETER."""
    for name in parameters:
        if name not in names:
            raise error("OIP_PARAMETER", str(name)[:64], f"this server has no such parameter of a {where}")


def check_few(tensors: Sequence[Any], where: str) -> None:
    """Raises RejectedError OIP_REQUEST."""
    if len(tensors) > MAX_TENSORS:
        raise error("OIP_REQUEST", where, f"{len(tensors)} of them, at most {MAX_TENSORS}")


def count_of(parameters: Mapping[str, Any], name: str) -> int:
    """0 when it is not there. Raises RejectedError OIP_PARAMETER unless it is an integer, not negative."""
    value = parameters.get(name, 0)
    if type(value) is not int or value < 0:
        raise error("OIP_PARAMETER", name, "an integer, not negative")
    return value


def flag_of(parameters: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise error("OIP_PARAMETER", name, "true or false")
    return value


def part_of(parameters: Mapping[str, Any]) -> Part | None:
    """Raises RejectedError OIP_PARAMETER."""
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    if not isinstance(region, str):
        raise error("OIP_PARAMETER", "shared_memory_region", "the name of a region")
    return Part(region, count_of(parameters, "shared_memory_offset"), count_of(parameters, "shared_memory_byte_size"))


def the_input(request: InferRequest, wanted: Signature) -> InputTensor:
    """The request's one input, held against the model's. A BF16 tensor fits FP32. Raises RejectedError OIP_TENSOR."""
    if len(request.inputs) != 1:
        raise error("OIP_TENSOR", wanted.name, f"the model has one input, the request {len(request.inputs)}")
    given = request.inputs[0]
    if given.name != wanted.name:
        raise error("OIP_TENSOR", given.name[:64], f"the model's input is {wanted.name}")
    if given.datatype != wanted.datatype and (given.datatype, wanted.datatype) != ("BF16", "FP32"):
        raise error("OIP_TENSOR", given.name, f"datatype {given.datatype}, the model's is {wanted.datatype}")
    if given.shape != wanted.shape:
        raise error("OIP_TENSOR", given.name, f"shape {list(given.shape)}, the model's is {list(wanted.shape)}")
    if given.part is not None and given.part.byte_size != byte_size(given.datatype, given.shape):  # a region may be larger than memory
        raise error(
            "OIP_TENSOR",
            given.name,
            f"{given.part.byte_size} bytes of {given.part.region[:64]} are no {given.datatype} {list(given.shape)}",
        )
    return given


def the_output(request: InferRequest, offered: Signature) -> WantedOutput:
    """Raises RejectedError OIP_TENSOR."""
    if not request.outputs:
        return WantedOutput(offered.name, request.binary)
    if len(request.outputs) != 1 or request.outputs[0].name != offered.name:
        raise error("OIP_TENSOR", request.outputs[0].name[:64], f"the model has one output, {offered.name}")
    return request.outputs[0]
