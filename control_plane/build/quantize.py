"""fp32 ONNX -> INT8 QDQ, by onnxruntime.quantization. One calibration, two forms:

qdq_cpu  activations u8, weights s8 with 7 bits, per channel. Seven, because AVX2 without VNNI adds pairs of products in
         16 bits and saturates on eight (measured: the accuracy cost of seven is 0.1 points).
qdq_trt  everything s8 and symmetric, no quantized bias: what TensorRT takes as it is written (lint.py says what it would bend).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from contracts.errors import error
from control_plane.build.source import F32

Form = Literal["qdq_cpu", "qdq_trt"]
SETTINGS: dict[Form, dict[str, Any]] = {
    "qdq_cpu": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "reduce_range": True, "extra_options": {}},
    "qdq_trt": {
        "activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8, "reduce_range": False,
        "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    },
}  # fmt: skip


def quantize(model: bytes, input_name: str, calibration: F32, form: Form) -> bytes:
    """The quantized model's bytes. `calibration`: (n, *input shape), each sample is one run. Raises RejectedError BUILD_SOURCE."""
    try:
        return _quantized(model, input_name, calibration, form)
    except Exception as broken:  # two libraries read a stranger's graph and raise whatever they meet there; the job must not come again
        raise error("BUILD_SOURCE", "model", f"cannot be quantized: {broken!r}"[:300]) from broken


def _quantized(model: bytes, input_name: str, calibration: F32, form: Form) -> bytes:
    with tempfile.TemporaryDirectory(prefix="skerry-build-") as folder:
        source, prepared, target = (Path(folder) / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx"))
        source.write_bytes(model)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)  # symbolic shapes would need sympy
        reader = _Samples(input_name, calibration)
        quantize_static(str(prepared), str(target), reader, quant_format=QuantFormat.QDQ, per_channel=True, **SETTINGS[form])
        return target.read_bytes()


def for_evaluation(model: bytes, form: Form) -> bytes:
    """The graph that shows what `form` is worth on this machine. `model` passed the linter.

    qdq_trt is written out as float arithmetic (weights as rounded, activations rounded and clipped between two operators):
    left to itself, ONNX Runtime fuses its nodes into kernels of its own, which saturate on CPUs without VNNI (measured:
    10 points of accuracy that no TensorRT loses).
    """
    if form == "qdq_cpu":
        return model
    proto = onnx.load_model_from_string(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    nodes = [plain for node in proto.graph.node for plain in _plain(node, constants)]
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    constants.update(_CLIP)
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items() if name in read)
    return bytes(proto.SerializeToString())


_CLIP: dict[str, NDArray[Any]] = {"skerry_lowest": np.array(-128, np.float32), "skerry_highest": np.array(127, np.float32)}


def _plain(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> list[onnx.NodeProto]:
    """`node`, or what does the same in floats; a constant that was dequantized becomes one of `constants`. Zero points are 0."""
    if node.op_type == "QuantizeLinear":
        (value, scale), result = node.input[:2], node.output[0]
        return [
            helper.make_node("Div", [value, scale], [f"{result}_scaled"]),
            helper.make_node("Round", [f"{result}_scaled"], [f"{result}_rounded"]),
            helper.make_node("Clip", [f"{result}_rounded", *_CLIP], [result]),
        ]
    if node.op_type != "DequantizeLinear":
        return [node]
    if node.input[0] not in constants:
        return [helper.make_node("Mul", list(node.input[:2]), list(node.output))]
    weight, scale = constants[node.input[0]], constants[node.input[1]]
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    along = [-1 if number == axis and scale.size > 1 else 1 for number in range(weight.ndim)]
    constants[node.output[0]] = weight.astype(np.float32) * scale.reshape(along)
    return []


class _Samples(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, input_name: str, samples: F32) -> None:
        self._feeds: Iterator[dict[str, F32]] = ({input_name: samples[n : n + 1]} for n in range(len(samples)))

    def get_next(self) -> dict[str, F32] | None:
        return next(self._feeds, None)
