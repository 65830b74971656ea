"""Refuses quantized graphs that a backend would silently read in another way. Rules, and where each one bites:

external_data   both      a second file is outside the signed digest
scale           both      scales are finite and above zero
weight_range    qdq_cpu   weights stay within 7 bits: eight saturate on AVX2 without VNNI
int32_bias      qdq_trt   DequantizeLinear on int32: TensorRT's parser refuses the graph
u8              qdq_trt   unsigned activations: the parser takes them as int8 and clips what lies above 127 x scale
zero_point      qdq_trt   symmetric only: another zero point is ignored
lonely_q        qdq_trt   an activation's QuantizeLinear feeds DequantizeLinear and nothing else
conv_axis       qdq_trt   per-channel weights of Conv are scaled along axis 0
domain          qdq_trt   operators of other domains are unknown to the parser
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from contracts.errors import error
from control_plane.build.quantize import Form

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_SEVEN_BITS = 64


@dataclass(frozen=True)
class Finding:
    rule: str
    node: str
    detail: str


def refuse(model: bytes, form: Form) -> None:
    """RejectedError BUILD_LINT with the first findings, if there are any."""
    found = lint(model, form)
    if found:
        told = "; ".join(f"{finding.rule} at {finding.node}: {finding.detail}" for finding in found[:5])
        raise error("BUILD_LINT", form, f"{len(found)} findings: {told}")


def lint(model: bytes, form: Form) -> list[Finding]:
    graph = _Graph(onnx.load_model_from_string(model))
    rules = [_external_data, _scales, *({"qdq_cpu": [_weight_range], "qdq_trt": _TRT_RULES}[form])]
    return [finding for rule in rules for finding in rule(graph)]


class _Graph:
    """Initializers by name, Q and DQ nodes, and who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.proto = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
        self.quantizers = [node for node in model.graph.node if node.op_type in (_Q, _DQ)]
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def value(self, name: str) -> NDArray[Any] | None:
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return np.asarray(numpy_helper.to_array(tensor))


def _external_data(graph: _Graph) -> Iterator[Finding]:
    for name, tensor in graph.constants.items():
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield Finding("external_data", name, "stored outside the file")


def _scales(graph: _Graph) -> Iterator[Finding]:
    for node in graph.quantizers:
        scale = graph.value(node.input[1])
        if scale is None or not np.isfinite(scale).all() or not np.greater(scale, 0).all():
            yield Finding("scale", node.name, "not a constant, finite and above zero")


def _weight_range(graph: _Graph) -> Iterator[Finding]:
    for node in graph.quantizers:
        weight = graph.value(node.input[0])
        if node.op_type == _DQ and weight is not None and weight.dtype == np.int8:
            largest = int(np.abs(weight.astype(np.int16)).max())
            if largest > _SEVEN_BITS:
                yield Finding("weight_range", node.name, f"up to {largest}")


def _int32_bias(graph: _Graph) -> Iterator[Finding]:
    for node in graph.quantizers:
        value = graph.value(node.input[0])
        if node.op_type == _DQ and value is not None and value.dtype == np.int32:
            yield Finding("int32_bias", node.name, "quantized bias")


def _zero_points(graph: _Graph) -> Iterator[Finding]:
    for node in graph.quantizers:
        if len(node.input) < 3 or not node.input[2]:
            yield Finding("u8", node.name, "no zero point: the type is uint8 by default")
            continue
        zero = graph.value(node.input[2])
        if zero is None or zero.dtype == np.uint8:
            yield Finding("u8", node.name, "unsigned, or a zero point that is no constant")
        elif np.any(zero != 0):
            yield Finding("zero_point", node.name, f"zero point {zero.reshape(-1)[:3].tolist()}")


def _lonely_q(graph: _Graph) -> Iterator[Finding]:
    for node in graph.quantizers:
        readers = graph.readers.get(node.output[0], [])
        if node.op_type == _Q and (not readers or any(reader.op_type != _DQ for reader in readers)):
            yield Finding("lonely_q", node.name, f"read by {[reader.op_type for reader in readers]}")


def _conv_axis(graph: _Graph) -> Iterator[Finding]:
    for node in graph.quantizers:
        scale, output = graph.value(node.input[1]), node.output[0]
        weighs = any(reader.op_type == "Conv" and reader.input[1] == output for reader in graph.readers.get(output, []))
        if weighs and scale is not None and scale.size > 1 and _axis(node) != 0:
            yield Finding("conv_axis", node.name, f"axis {_axis(node)}")


def _domain(graph: _Graph) -> Iterator[Finding]:
    for node in graph.proto.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield Finding("domain", node.name, f"{node.domain}.{node.op_type}")


def _axis(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 1)


_TRT_RULES = [_int32_bias, _zero_points, _lonely_q, _conv_axis, _domain]
