"""The classifier as an ONNX graph: two convolutions with fixed random filters, and a linear head that is learnt.

    x (n, 1, 32, 32) -> Conv 3x3 1->16, ReLU, MaxPool -> [wide pairs]
                     -> Conv 3x3 16->32, ReLU, MaxPool -> Flatten -> Gemm 2048->10 -> Softmax

Random He filters followed by a logistic head are a real convolutional network for everything downstream (per-channel
quantization, TensorRT, the linter) and need no back-propagation of our own. The features are computed by ONNX Runtime
from this very graph, so there is no second implementation that could differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INPUT, OUTPUT, FEATURES = "x", "probabilities", "features"
SIDE = 32
CLASSES = 10
FEATURE_COUNT = 2048
_OPSET = 17
_IR_VERSION = 8  # what ONNX Runtime 1.19 and TensorRT 8.6 read
_FILTER_SEED = 7
_WIDE, _NARROW = 256, 16

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    weights: Array  # (10, 2048)
    bias: Array  # (10,)


class _Graph:
    """Nodes in order, and their weights. `last` is the tensor that the next node reads."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = INPUT

    def add(self, operator: str, *weights: Array, **attributes: Any) -> None:
        name = f"{operator.lower()}_{len(self.nodes)}"
        names = [f"{name}_{part}" for part, _ in zip("wb", weights, strict=False)]
        self.weights += [numpy_helper.from_array(value, part) for part, value in zip(names, weights, strict=True)]
        self.nodes.append(helper.make_node(operator, [self.last, *names], [name], name=name, **attributes))
        self.last = name

    def convolve(self, filters: Array) -> None:
        self.add("Conv", filters, np.zeros(len(filters), np.float32), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        self.add("Relu")

    def pool(self) -> None:
        self.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])

    def name_last(self, name: str) -> None:
        self.nodes[-1].output[0] = name
        self.last = name


def features(wide_pairs: int = 0) -> onnx.ModelProto:
    """The graph up to its features (n, 2048): what the head is trained on."""
    return _model(_trunk(wide_pairs), FEATURES, FEATURE_COUNT)


def classifier(head: Head, wide_pairs: int = 0) -> onnx.ModelProto:
    """The whole graph: probabilities (n, 10)."""
    graph = _trunk(wide_pairs)
    graph.add("Gemm", head.weights, head.bias, transB=1)
    graph.add("Softmax", axis=1)
    graph.name_last(OUTPUT)
    return _model(graph, OUTPUT, CLASSES)


def _trunk(wide_pairs: int) -> _Graph:
    random = np.random.default_rng(_FILTER_SEED)
    graph = _Graph()
    graph.convolve(_he(random, _NARROW, 1))
    graph.pool()
    for _ in range(wide_pairs):
        _wide_pair(graph)
    graph.convolve(_he(random, 32, _NARROW))
    graph.pool()
    graph.add("Flatten")
    graph.name_last(FEATURES)
    return graph


def _he(random: np.random.Generator, out: int, into: int) -> Array:
    return random.normal(0, np.sqrt(2 / (into * 9)), (out, into, 3, 3)).astype(np.float32)


def _wide_pair(graph: _Graph) -> None:
    """16 -> 256 -> 16 channels that copy and average: a great deal of arithmetic that changes nothing (inputs are >= 0).

    This is what an over-grown model looks like from outside: right as before, and slow.
    """
    copies = np.arange(_WIDE)
    widen = np.zeros((_WIDE, _NARROW, 3, 3), np.float32)
    widen[copies, copies % _NARROW, 1, 1] = 1
    narrow = np.zeros((_NARROW, _WIDE, 3, 3), np.float32)
    narrow[copies % _NARROW, copies, 1, 1] = _NARROW / _WIDE
    graph.convolve(widen)
    graph.convolve(narrow)


def _model(graph: _Graph, output: str, width: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    proto = helper.make_graph(
        graph.nodes,
        "digits_line",
        [value(INPUT, TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [value(output, TensorProto.FLOAT, ["n", width])],
        graph.weights,
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="skerry-digits-line")
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model
