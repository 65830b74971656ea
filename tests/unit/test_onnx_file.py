"""Tensors outside the file are found wherever ONNX lets a tensor stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from contracts.errors import SkerryError
from control_plane.build import source
from processing.onnx_file import external_tensors
from tests.simulators.small_line import external_data_model, small_model


def outside(name: str = "far", location: str = "weights.bin") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def node_with(**attribute: Any) -> NodeProto:
    node = NodeProto(op_type="Constant", output=["c"])
    node.attribute.append(AttributeProto(name="value", **attribute))
    return node


def subgraph() -> GraphProto:
    return helper.make_graph([node_with(t=outside(), type=AttributeProto.TENSOR)], "within", [], [])


def sparse() -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=outside())


PLACES: dict[str, Callable[[onnx.ModelProto], object]] = {
    "initializer": lambda model: model.graph.initializer.append(outside()),
    "sparse initializer": lambda model: model.graph.sparse_initializer.append(sparse()),
    "constant": lambda model: model.graph.node.append(node_with(t=outside())),
    "list of tensors": lambda model: model.graph.node.append(node_with(tensors=[TensorProto(name="near"), outside()])),
    "sparse constant": lambda model: model.graph.node.append(node_with(sparse_tensor=sparse())),
    "list of sparse tensors": lambda model: model.graph.node.append(node_with(sparse_tensors=[sparse()])),
    "branch": lambda model: model.graph.node.append(node_with(g=subgraph())),
    "list of branches": lambda model: model.graph.node.append(node_with(graphs=[subgraph()])),
    "function": lambda model: model.functions.append(onnx.FunctionProto(name="f", node=[node_with(t=outside())])),
    "default of a function": lambda model: model.functions.append(onnx.FunctionProto(attribute_proto=[AttributeProto(t=outside())])),
    "training": lambda model: model.training_info.append(onnx.TrainingInfoProto(algorithm=subgraph())),
    "location without the mark": lambda model: model.graph.initializer.append(unmarked()),
}


def unmarked() -> TensorProto:
    tensor = outside()
    tensor.ClearField("data_location")
    return tensor


def planted(place: str) -> bytes:
    model = onnx.load_model_from_string(small_model())
    PLACES[place](model)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_outside_the_file_is_found(place: str) -> None:
    assert external_tensors(planted(place)) == ["far"]


@pytest.mark.parametrize("place", PLACES)
def test_the_builder_refuses_it_before_its_path_is_followed(place: str) -> None:
    with pytest.raises(SkerryError, match="external data") as refused:
        source._tensors(planted(place))
    assert refused.value.code == "BUILD_SOURCE"


def test_a_model_that_holds_everything_has_none() -> None:
    assert external_tensors(small_model()) == []
    assert len(external_tensors(external_data_model())) == 1


def test_a_file_nests_as_deep_as_it_likes() -> None:
    node = node_with(t=outside())
    for _ in range(3000):
        data = node.SerializeToString()
        graph = b"\x0a" + _varint(len(data)) + data
        attribute = b"\x32" + _varint(len(graph)) + graph
        node = Raw(b"\x2a" + _varint(len(attribute)) + attribute)  # type: ignore[assignment]
    data = node.SerializeToString()
    graph = b"\x0a" + _varint(len(data)) + data
    assert external_tensors(b"\x3a" + _varint(len(graph)) + graph) == ["far"]


class Raw:
    """A message that protobuf itself would not nest so deep."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:
        return self._data


def test_a_field_with_a_number_that_readers_cut_is_refused() -> None:
    """onnxruntime's protobuf keeps 32 bits of a key: what is field 13 to it would be no field of ours, and the tensor one of the file's."""
    cut = _varint(13 << 3 | 2 | 1 << 32)
    tensor = outside().SerializeToString().replace(_varint(13 << 3 | 2), cut).replace(_varint(14 << 3), _varint(14 << 3 | 1 << 32))
    graph = b"\x2a" + _varint(len(tensor)) + tensor
    with pytest.raises(ValueError, match="no field has such a number"):
        external_tensors(b"\x3a" + _varint(len(graph)) + graph)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes([*encoded, value])


def by_reflection(message: Any) -> Iterator[str]:
    """The same question, asked of protobuf's own reader."""
    if isinstance(message, TensorProto) and (message.external_data or message.data_location):
        yield message.name
    for field, value in message.ListFields():
        if field.message_type:
            for within in value if field.is_repeated else [value]:
                yield from by_reflection(within)


@given(st.data())
@settings(max_examples=300)
def test_whatever_onnx_reads_as_outside_is_seen_or_refused(data: st.DataObject) -> None:
    model = bytearray(planted(data.draw(st.sampled_from(sorted(PLACES)))))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(model) - 1), st.integers(0, 255)), max_size=4)):
        model[place] = value
    hurt = bytes(model[: data.draw(st.just(len(model)) | st.integers(0, len(model)))])
    try:
        read = onnx.load_model_from_string(hurt)
    except DecodeError:
        read = onnx.ModelProto()
    try:
        found = external_tensors(hurt)
    except ValueError:
        return
    assert bool(found) >= bool(list(by_reflection(read)))
