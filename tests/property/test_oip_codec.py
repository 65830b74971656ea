"""Tensors and requests of the Open Inference Protocol: there and back, and whatever comes is read or refused with a code."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import SkerryError
from edge_agent.inference.oip import grpc_codec, rest_codec
from edge_agent.inference.oip import open_inference_pb2 as pb
from edge_agent.inference.oip.datatypes import DATATYPES, DTYPES, from_bytes, from_json, to_bytes, to_json
from edge_agent.inference.oip.request import Signature, the_input
from edge_agent.inference.oip.rest_codec import OutputTensor

NUMBERS = sorted(DTYPES)
CODES = ("OIP_REQUEST", "OIP_TENSOR", "OIP_PARAMETER")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def outcome(call: Callable[[], Any]) -> Any:
    """What it returns, or the code of its refusal."""
    try:
        return call()
    except SkerryError as refused:
        return refused.code


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, Any]:
    """(datatype, array) of any datatype but BF16, which is not exact."""
    shape = draw(shapes())
    datatype = draw(st.sampled_from([*NUMBERS, "BYTES"]))
    count = math.prod(shape)
    if datatype == "BYTES":
        array = np.empty(count, dtype=object)
        array[:] = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        return datatype, array.reshape(shape)
    dtype = np.dtype(DTYPES[datatype])
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    array = np.frombuffer(bytes(byte & 1 for byte in raw) if datatype == "BOOL" else raw, dtype)
    return datatype, (np.nan_to_num(array, nan=1, posinf=2, neginf=-2) if dtype.kind == "f" else array).reshape(shape)


@given(tensors())
def test_a_tensor_comes_back_from_its_bytes(tensor: tuple[str, Any]) -> None:
    datatype, array = tensor
    back = from_bytes("t", datatype, array.shape, to_bytes(datatype, array))
    assert back.shape == array.shape
    assert to_bytes(datatype, back) == to_bytes(datatype, array)


@given(tensors())
def test_a_tensor_comes_back_from_its_json(tensor: tuple[str, Any]) -> None:
    datatype, array = tensor
    if datatype == "BYTES":
        array = np.array([*(element.hex().encode() for element in array.ravel()), None], dtype=object)[:-1].reshape(array.shape)
    text = orjson.dumps(to_json(datatype, array), option=orjson.OPT_SERIALIZE_NUMPY)
    back = from_json("t", datatype, array.shape, orjson.loads(text))
    assert to_bytes(datatype, back) == to_bytes(datatype, array)


@given(st.lists(st.floats(width=32), max_size=8))
def test_bf16_is_the_nearest_and_comes_back_unchanged(values: list[float]) -> None:
    array = np.array(values, dtype="<f4")
    once = from_bytes("t", "BF16", array.shape, to_bytes("BF16", array))
    again = from_bytes("t", "BF16", array.shape, to_bytes("BF16", once))
    assert np.array_equal(once, again, equal_nan=True)
    finite = np.isfinite(array) & np.isfinite(once)
    assert np.all(np.abs(once[finite] - array[finite]) <= np.abs(array[finite]) / 256 + np.float32(1e-40))
    assert np.array_equal(np.isnan(once), np.isnan(array))


@given(st.sampled_from(sorted(DATATYPES)), shapes(), JSON)
def test_any_json_is_a_tensor_or_refused(datatype: str, shape: tuple[int, ...], data: Any) -> None:
    got = outcome(lambda: from_json("t", datatype, shape, data))
    assert got == "OIP_TENSOR" if isinstance(got, str) else got.shape == shape


@given(st.sampled_from(sorted(DATATYPES)), shapes(), st.binary(max_size=40))
def test_any_bytes_are_a_tensor_or_refused(datatype: str, shape: tuple[int, ...], data: bytes) -> None:
    got = outcome(lambda: from_bytes("t", datatype, shape, data))
    assert got == "OIP_TENSOR" if isinstance(got, str) else got.shape == shape


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": JSON, "parameters": JSON, "outputs": JSON,
            "inputs": JSON | st.lists(
                st.fixed_dictionaries(
                    {"name": st.text(max_size=3), "datatype": st.sampled_from(sorted(DATATYPES)), "shape": shapes().map(list)},
                    optional={"data": JSON, "parameters": JSON | st.just({"binary_data_size": 4})},
                ),
                max_size=2,
            ),
        },
    ),
    st.binary(max_size=16),
)  # fmt: skip
def test_any_request_is_read_or_refused(message: dict[str, Any], binary: bytes) -> None:
    text = json.dumps(message).encode()
    got = outcome(lambda: rest_codec.parse(text + binary, len(text)))
    whole = got in CODES if isinstance(got, str) else all(one.part is not None or one.values.shape == one.shape for one in got.inputs)
    assert whole


@given(st.binary(max_size=60), st.none() | st.integers(-1, 70))
def test_any_body_is_read_or_refused(body: bytes, json_bytes: int | None) -> None:
    with pytest.raises(SkerryError) as refused:
        rest_codec.parse(body + b"\xff", json_bytes)
    assert refused.value.code == "OIP_REQUEST"


@given(tensors(), st.booleans())
def test_what_is_rendered_as_an_output_reads_as_an_input(tensor: tuple[str, Any], binary: bool) -> None:
    datatype, array = tensor
    body = rest_codec.render("m", "1", "7", [OutputTensor("t", datatype, array.shape, array, binary or datatype == "BYTES")])
    text, *binaries = body.pieces
    assert body.json_bytes == (len(text) if binaries else None)
    message = json.loads(text)
    request = json.dumps({"id": message["id"], "inputs": message["outputs"]}).encode()
    read = rest_codec.parse(b"".join((request, *binaries)), len(request))
    assert read.id == "7"
    assert to_bytes(datatype, read.inputs[0].values) == to_bytes(datatype, array)


@given(tensors())
def test_grpc_renders_and_reads_the_same_tensor(tensor: tuple[str, Any]) -> None:
    datatype, array = tensor
    response = pb.ModelInferResponse.FromString(grpc_codec.render("m", "1", "7", [OutputTensor("t", datatype, array.shape, array)]))
    request = pb.ModelInferRequest(raw_input_contents=response.raw_output_contents)
    request.inputs.add(name="t", datatype=datatype, shape=array.shape)
    read = grpc_codec.parse(grpc_codec.read_inference(request.SerializeToString()))
    assert to_bytes(datatype, read.inputs[0].values) == to_bytes(datatype, array)


@given(st.binary(max_size=60))
def test_any_grpc_message_is_read_or_refused(data: bytes) -> None:
    with pytest.raises(SkerryError) as refused:
        the_input(grpc_codec.parse(grpc_codec.read_inference(data)), Signature("t", "FP32", (1, 64)))
    assert refused.value.code in ("OIP_REQUEST", "OIP_TENSOR", "OIP_PARAMETER")


@given(st.lists(st.binary(max_size=8), max_size=3), st.text(max_size=5), st.permutations(range(3)))
def test_a_grpc_message_is_read_as_protobuf_reads_it_in_any_order(raw: list[bytes], name: str, order: list[int]) -> None:
    parts = [pb.ModelInferRequest(raw_input_contents=raw), pb.ModelInferRequest(model_name=name), pb.ModelInferRequest(id="7")]
    data = b"".join(parts[place].SerializeToString() for place in order)
    found, wanted = grpc_codec.read_inference(data), pb.ModelInferRequest.FromString(data)
    assert [bytes(view) for view in found.raw] == list(wanted.raw_input_contents)
    assert (found.head.model_name, found.head.request.id) == (wanted.model_name, wanted.id)


@given(st.data(), st.text(max_size=3), st.binary(max_size=200), st.booleans())
def test_a_grpc_message_like_one_before_it_is_read_as_if_it_were_the_first(
    data: st.DataObject, name: str, raw: bytes, raw_last: bool
) -> None:
    """It may differ anywhere, and keep its length."""
    head = pb.ModelInferRequest(model_name=name, id="7").SerializeToString()
    tensor = pb.ModelInferRequest(raw_input_contents=[raw]).SerializeToString()
    message = bytearray(head + tensor if raw_last else tensor + head)
    outcome(lambda: grpc_codec.read_inference(bytes(message)))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    found = outcome(lambda: grpc_codec.read_inference(bytes(message)))
    grpc_codec.forget()
    wanted = outcome(lambda: grpc_codec.read_inference(bytes(message)))
    assert _said(found) == _said(wanted)


def _said(read: Any) -> Any:
    return read if isinstance(read, str) else (read.head.model_name, outcome(lambda: read.head.request), [bytes(raw) for raw in read.raw])
