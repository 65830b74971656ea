"""Requests of the Open Inference Protocol, case by case: what is read, and what is refused with which code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import CODES, SkerryError
from edge_agent.inference.oip import grpc_codec, rest_codec
from edge_agent.inference.oip import open_inference_pb2 as pb
from edge_agent.inference.oip.classes import labels_of, largest
from edge_agent.inference.oip.datatypes import from_bytes, from_json, to_bytes
from edge_agent.inference.oip.request import InferRequest, Part, Signature, the_input, the_output
from edge_agent.inference.oip.rest_codec import OutputTensor
from edge_agent.inference.oip.status import STATUS

X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5]}
MODEL = Signature("x", "FP32", (1, 2))


def parse(message: Any, binary: bytes = b"") -> InferRequest:
    text = json.dumps(message).encode()
    return rest_codec.parse(text + binary, len(text))


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(SkerryError) as caught:
        call(*arguments)
    return caught.value.code


def test_json_may_be_nested_or_flat() -> None:
    for data in ([[1, 2], [3, 4]], [1, 2, 3, 4]):
        assert from_json("x", "INT32", (2, 2), data).tolist() == [[1, 2], [3, 4]]
    assert from_json("x", "BYTES", (2, 1), [["a"], ["ü"]]).tolist() == [[b"a"], ["ü".encode()]]


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", [1, [2]]), ("FP32", ["1", "2"]), ("FP32", [1e39, 0]), ("FP16", [70000, 0]), ("UINT8", [256, 0]), ("UINT8", [-1, 0]),
        ("INT32", [1.5, 2]), ("INT64", [2**63, 0]), ("INT64", [2**80, 0]), ("BOOL", [0, 1]), ("FP32", [True, False]), ("FP32", [1]),
        ("FP32", [[1], [2]]), ("FP32", 7), ("BYTES", [1, 2]), ("FP32", [None, 1]), ("FP32", [{}, {}]),
    ],
)  # fmt: skip
def test_data_that_are_no_such_tensor_are_refused(datatype: str, data: Any) -> None:
    assert refused(from_json, "x", datatype, (2,), data) == "OIP_TENSOR"


@pytest.mark.parametrize("datatype", ["BYTES", "UINT64", "FP32"])
def test_lists_nest_as_deep_as_they_like(datatype: str) -> None:
    """JSON's reader takes a thousand levels, which is more than Python's stack."""
    deep: list[Any] = []
    for _ in range(1020):
        deep = [deep]
    assert refused(from_json, "x", datatype, (1,), deep) == "OIP_TENSOR"


def test_bf16_is_half_of_a_float() -> None:
    assert from_bytes("x", "BF16", (2,), b"\x80\x3f\x00\xc0").tolist() == [1.0, -2.0]
    assert to_bytes("BF16", np.array([1.0, -2.0, np.inf], "<f4")) == b"\x80\x3f\x00\xc0\x80\x7f"
    assert from_json("x", "BF16", (1,), [1.001]).tolist() == [1.0]


def test_bytes_elements_carry_their_lengths() -> None:
    data = b"\x01\x00\x00\x00a\x00\x00\x00\x00"
    assert from_bytes("x", "BYTES", (2,), data).tolist() == [b"a", b""]
    for broken in (data[:-1], data[:-5] + b"\xff\xff\xff\xff", data + b"\x00" * 4):
        assert refused(from_bytes, "x", "BYTES", (2,), broken) == "OIP_TENSOR"


def test_binary_tensors_follow_the_json_in_its_order() -> None:
    two = [{"name": name, "datatype": "INT8", "shape": [n], "parameters": {"binary_data_size": n}} for name, n in (("a", 1), ("b", 2))]
    read = parse({"inputs": two, "parameters": {"binary_data_output": True}}, b"\x01\x02\x03")
    assert [tensor.values.tolist() for tensor in read.inputs] == [[1], [2, 3]]
    assert read.binary
    for wrong in (b"\x01\x02", b"\x01\x02\x03\x04"):
        assert refused(parse, {"inputs": two}, wrong) == "OIP_REQUEST"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"datatype": "FLOAT"}, "OIP_TENSOR"), ({"datatype": 7}, "OIP_TENSOR"), ({"shape": [1, -2]}, "OIP_TENSOR"),
        ({"shape": [True, 2]}, "OIP_TENSOR"), ({"shape": "12"}, "OIP_TENSOR"), ({"shape": [1 << 40]}, "OIP_TENSOR"),
        ({"parameters": {"binary_data_size": 8}}, "OIP_TENSOR"), ({"parameters": {"gain": 2}}, "OIP_PARAMETER"),
        ({"parameters": []}, "OIP_REQUEST"), ({"name": 5}, "OIP_REQUEST"),
        ({"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8}}, "OIP_TENSOR"),
    ],
)  # fmt: skip
def test_an_input_that_is_none_is_refused(change: dict[str, Any], code: str) -> None:
    assert refused(parse, {"inputs": [{**X, **change}]}) == code


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ([], "OIP_REQUEST"), ({"inputs": {}}, "OIP_REQUEST"), ({"inputs": [1]}, "OIP_REQUEST"), ({"inputs": [X], "id": 1}, "OIP_REQUEST"),
        ({"inputs": [X], "parameters": {"sequence_id": 3}}, "OIP_PARAMETER"), ({"parameters": {"timeout": -1}}, "OIP_PARAMETER"),
        ({"parameters": {"priority": 1.0}}, "OIP_PARAMETER"), ({"parameters": {"binary_data_output": 1}}, "OIP_PARAMETER"),
        ({"outputs": [{"name": "y", "parameters": {"classification": "3"}}]}, "OIP_PARAMETER"),
        ({"outputs": [{"name": "y", "parameters": {"shared_memory_region": 3}}]}, "OIP_PARAMETER"),
        ({"outputs": [{}] * 65}, "OIP_REQUEST"), ({"inputs": [X] * 65}, "OIP_REQUEST"),
        ({"inputs": [{**X, "shape": [1] * 33}]}, "OIP_TENSOR"),
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_refused(message: Any, code: str) -> None:
    assert refused(parse, message) == code


@pytest.mark.parametrize("body", [b"", b"{", b'{"inputs": [NaN]}', b"[" * 100_000, b'"\xff"'])
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    assert refused(rest_codec.parse, body, None) == "OIP_REQUEST"


def test_json_is_as_long_as_its_tensor_needs() -> None:
    MODEL.check_json(len(json.dumps({"inputs": [X]}, indent=8)))
    assert refused(MODEL.check_json, 65 * 1024) == "OIP_TOO_LARGE"
    Signature("x", "FP64", (1, 3, 224, 224)).check_json(len(json.dumps([[[[-2.2250738585072014e-308] * 224] * 224] * 3], indent=4)))


def test_scheduling_is_read() -> None:
    read = parse({"inputs": [X], "parameters": {"timeout": 5000, "priority": 2}})
    assert (read.timeout_us, read.low_priority) == (5000, True)
    assert not parse({"inputs": [X], "parameters": {"priority": 1}}).low_priority


@pytest.mark.parametrize(
    "change", [{"name": "z"}, {"datatype": "FP64"}, {"shape": [2, 1]}, {"shape": [1, 3], "data": [1, 2, 3]}, {"shape": [2]}]
)
def test_an_input_is_held_against_the_models(change: dict[str, Any]) -> None:
    assert refused(the_input, parse({"inputs": [{**X, **change}]}), MODEL) == "OIP_TENSOR"


def test_a_piece_of_shared_memory_is_as_large_as_its_tensor() -> None:
    """It is looked at before it is read: a file without a byte in it may say that it has a terabyte."""

    def read(size: int, datatype: str = "FP32") -> InferRequest:
        place = {"shared_memory_region": "r", "shared_memory_byte_size": size}
        return parse({"inputs": [{"name": "x", "datatype": datatype, "shape": [1, 2], "parameters": place}]})

    assert the_input(read(8), MODEL).part == Part("r", 0, 8)
    assert the_input(read(4, "BF16"), MODEL).part == Part("r", 0, 4)
    for size in (0, 4, 9, 1 << 40):
        assert refused(the_input, read(size), MODEL) == "OIP_TENSOR"


def test_one_input_and_one_output_is_what_models_have() -> None:
    assert the_input(parse({"inputs": [X]}), MODEL).values.tolist() == [[1, 2.5]]
    assert the_input(parse({"inputs": [{**X, "datatype": "BF16"}]}), MODEL).values.tolist() == [[1, 2.5]]
    assert refused(the_input, parse({"inputs": []}), MODEL) == "OIP_TENSOR"
    assert refused(the_input, parse({"inputs": [X, X]}), MODEL) == "OIP_TENSOR"
    assert the_output(parse({"inputs": [X]}), MODEL).name == "x"
    assert refused(the_output, parse({"outputs": [{"name": "y"}]}), MODEL) == "OIP_TENSOR"


def test_a_body_without_json_is_the_models_input() -> None:
    read = rest_codec.parse_raw(np.array([1, 2.5], "<f4").tobytes(), MODEL)
    assert read.inputs[0].values.tolist() == [[1, 2.5]]
    assert refused(rest_codec.parse_raw, b"123", MODEL) == "OIP_TENSOR"


def test_the_largest_are_named_by_value_and_index() -> None:
    found = largest(np.array([[0.5, 2, -1, 2]], "<f4"), 3)
    assert found.tolist() == [b"2.000000:1", b"2.000000:3", b"0.500000:0"]
    assert largest(np.array([1, 2], "u1"), 9).tolist() == [b"2:1", b"1:0"]
    assert largest(np.array([2**63 - 2, -(2**63), 2**63 - 1, 2**63 - 1], "<i8"), 3).tolist() == [
        f"{2**63 - 1}:2".encode(), f"{2**63 - 1}:3".encode(), f"{2**63 - 2}:0".encode(),
    ]  # fmt: skip


def test_a_label_follows_the_index_where_there_are_labels() -> None:
    found = largest(np.array([[0.5, 2], [3, 1]], "<f4"), 3, ("bolt", "Ger\u00e4t: 2"))
    assert [text.decode() for text in found] == ["3.000000:2:bolt", "2.000000:1:Ger\u00e4t: 2", "1.000000:3:Ger\u00e4t: 2"]


@pytest.mark.parametrize("manifest", [b"{", b"[]", b"{}", b'{"labels": 7}'])
def test_a_slot_without_a_readable_manifest_has_no_labels(tmp_path: Path, manifest: bytes) -> None:
    assert labels_of(str(tmp_path)) == ()
    (tmp_path / "manifest.json").write_bytes(manifest)
    assert labels_of(str(tmp_path)) == ()


def test_an_output_in_shared_memory_is_named_and_not_sent() -> None:
    output = OutputTensor("y", "FP32", (2,), None, False, Part("r", 4, 8))
    body = rest_codec.render("m", "1", "", [output])
    (tensor,) = json.loads(b"".join(body.pieces))["outputs"]
    assert tensor["parameters"] == {"shared_memory_region": "r", "shared_memory_offset": 4, "shared_memory_byte_size": 8}
    response = pb.ModelInferResponse.FromString(grpc_codec.render("m", "1", "", [output]))
    assert response.outputs[0].parameters["shared_memory_region"].string_param == "r"
    assert not response.raw_output_contents


# -- gRPC


def grpc_request(**contents: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest()
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2], contents=pb.InferTensorContents(**contents))
    return request


def parse_grpc(request: pb.ModelInferRequest, most_elements: int = 1 << 20) -> InferRequest:
    return grpc_codec.parse(grpc_codec.read_inference(request.SerializeToString()), most_elements)


def test_typed_contents_are_read() -> None:
    assert parse_grpc(grpc_request(fp32_contents=[1, 2.5])).inputs[0].values.tolist() == [[1, 2.5]]
    request = grpc_request()
    request.inputs[0].datatype = "BYTES"
    request.inputs[0].contents.bytes_contents.extend([b"a", b""])
    assert parse_grpc(request).inputs[0].values.tolist() == [[b"a", b""]]


def test_grpc_requests_that_are_none_are_refused() -> None:
    assert refused(parse_grpc, grpc_request(fp32_contents=[1])) == "OIP_TENSOR"
    assert refused(parse_grpc, grpc_request(int_contents=[1, 2])) == "OIP_TENSOR"
    half = grpc_request()
    half.inputs[0].datatype = "FP16"
    assert refused(parse_grpc, half) == "OIP_TENSOR"
    many = grpc_request()
    many.raw_input_contents.extend([b"8 bytes.", b"more"])
    assert refused(parse_grpc, many) == "OIP_REQUEST"
    del many.raw_input_contents[1]
    many.inputs.add(name="y", datatype="INT8", shape=[1])
    assert refused(parse_grpc, many) == "OIP_REQUEST"
    empty = grpc_request(fp32_contents=[1, 2])
    empty.parameters["timeout"].SetInParent()
    assert refused(parse_grpc, empty) == "OIP_PARAMETER"


def test_a_tensor_larger_than_the_models_is_not_looked_at() -> None:
    request = grpc_request(fp32_contents=[1, 2])
    assert parse_grpc(request, most_elements=2).inputs[0].values.tolist() == [[1, 2]]
    assert refused(parse_grpc, request, 1) == "OIP_TENSOR"
    request.inputs[0].shape[:] = [1] * 33
    assert refused(parse_grpc, request) == "OIP_TENSOR"


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\x05tiny"])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    assert refused(grpc_codec.read, pb.ModelReadyRequest, data) == "OIP_REQUEST"
    assert refused(grpc_codec.read_inference, data) == "OIP_REQUEST"


def test_a_message_of_a_great_many_fields_is_not_read() -> None:
    """Two bytes each; protobuf makes a hundred of them."""
    large = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[bytes(100_000)])
    assert grpc_codec.read(pb.ModelInferRequest, large.SerializeToString()) == large
    assert grpc_codec.read_inference(large.SerializeToString()).head.model_name == "tiny"
    for field in (b"\x2a\x00", b"\x32\x00", b"\x3a\x00", b"\x22\x00"):
        assert refused(grpc_codec.read, pb.ModelInferRequest, field * 40_000) == "OIP_REQUEST"
        assert refused(grpc_codec.read_inference, field * 1025) == "OIP_REQUEST"


def test_what_no_model_has_a_use_for_is_refused_before_it_is_read() -> None:
    """Each of these took seconds of everybody's time, or hundreds of megabytes."""
    assert refused(from_bytes, "x", "BYTES", (1 << 20,), bytes(4 << 20)) == "OIP_TENSOR"
    assert refused(from_bytes, "x", "BYTES", (1,), bytes(4 << 20)) == "OIP_TENSOR"
    assert refused(from_json, "x", "FP32", (2000,), [0.5] * 1999 + ["x" * 20_000]) == "OIP_TENSOR"
    assert refused(from_json, "x", "FP32", (2, 2), [[1, 2], [3, "4"]]) == "OIP_TENSOR"
    request = pb.ModelInferRequest(raw_input_contents=[b"ab"])
    tensor = request.inputs.add(name="x", datatype="UINT8", shape=[2])
    for number in range(grpc_codec.MAX_FIELDS + 1):
        tensor.parameters[str(number)].bool_param = True
    assert refused(parse_grpc, request) == "OIP_REQUEST"


def test_a_large_tensor_that_is_no_message_is_refused_with_a_code() -> None:
    """Longer than a head that is remembered, so its fields are counted first."""
    tensor = b"\xff" * (rest_codec.REMEMBERED_BYTES + 1)
    length = len(tensor)
    message = bytes([5 << 3 | 2, length & 0x7F | 0x80, length >> 7]) + tensor
    assert refused(grpc_codec.read_inference, message) == "OIP_REQUEST"


@pytest.mark.parametrize("shape", [[0, 2**62], [2**62, 0], [2**40, 2**40]])
def test_a_size_that_no_memory_has_is_refused_beside_a_nought_too(shape: list[int]) -> None:
    assert refused(parse, {"inputs": [{**X, "shape": shape, "data": []}]}) == "OIP_TENSOR"


def test_contents_beside_raw_contents_or_shared_memory_are_refused() -> None:
    request = grpc_request(fp32_contents=[1, 2.5])
    request.raw_input_contents.append(bytes(8))
    assert refused(parse_grpc, request) == "OIP_TENSOR"
    request = grpc_request(fp32_contents=[1, 2.5])
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    assert refused(parse_grpc, request) == "OIP_TENSOR"


def test_raw_tensors_are_found_wherever_they_lie_and_the_same_head_is_read_once() -> None:
    request = pb.ModelInferRequest(model_name="tiny", id="7")
    request.inputs.add(name="x", datatype="UINT8", shape=[2])
    head, raw = request.SerializeToString(), pb.ModelInferRequest(raw_input_contents=[b"ab"]).SerializeToString()
    before, after = (grpc_codec.read_inference(data) for data in (raw + head, head + raw))
    assert before.head is after.head
    for found in (before, after):
        assert grpc_codec.parse(found).inputs[0].values.tolist() == [97, 98]
        assert grpc_codec.parse(found).id == "7"


def test_more_inputs_than_are_thought_of_are_refused() -> None:
    few = pb.ModelInferRequest.FromString(b"\x2a\x00" * 65)
    assert refused(parse_grpc, few) == "OIP_REQUEST"


def test_every_code_of_this_front_has_its_status() -> None:
    assert {code for code in CODES if code.startswith("OIP_")} <= set(STATUS)
    assert set(STATUS) <= set(CODES)
