"""Which tensors an ONNX file leaves to other files. Read by ourselves: the builder and every backend ask the same, and a board needs no
library for it.

What lies outside the file is outside its digest, and its path would be followed by whoever loads the model. Field numbers: onnx.proto of
ONNX 1.x, where they never change. Python 3.8-clean.
"""

from __future__ import annotations

from typing import Union

from processing import wire_form
from processing.wire_form import Field

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


def external_tensors(model: Buffer) -> list[str]:
    """Names of the tensors whose values the file does not hold. Raises ValueError when it is cut short or is no protobuf."""
    data, found = memoryview(model), []
    todo = [("Model", 0, len(data))]  # not by recursion: a hostile file nests as deep as it likes
    while todo:
        message, start, end = todo.pop()
        fields = list(wire_form.fields(data, start, end))
        if message == "Tensor" and any(_leaves_the_file(field) for field in fields):
            found.append(_name(data, fields))
        within = _WITHIN[message]
        todo += [(within[field.number], field.start, field.end) for field in fields if field.number in within]
    return found


def _leaves_the_file(field: Field) -> bool:
    return field.number == _EXTERNAL_DATA or (field.number == _DATA_LOCATION and field.value != 0)


def _name(data: memoryview, fields: list[Field]) -> str:
    names = [bytes(data[field.start : field.end]).decode(errors="replace") for field in fields if field.number == _TENSOR_NAME]
    return names[-1] if names else ""
