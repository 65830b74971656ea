"""The classifier as an ONNX graph: two convolutions with fixed random filters, and a linear head that is learnt.

x (n, 1, 32, 32) -> Conv 3x3 1->16, ReLU, MaxPool -> [wide pairs]
                 -> Conv 3x3 16->32, ReLU, MaxPool -> Flatten -> Gemm 2048->10 -> Softmax
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from examples.graph import Array, Graph, he

OUTPUT, FEATURES = "probabilities", "features"
SIDE = 32
CLASSES = 10
FEATURE_COUNT = 2048
_FILTER_SEED = 7
_WIDE, _NARROW = 256, 16


@dataclass(frozen=True)
class Head:
    weights: Array  # (10, 2048)
    bias: Array  # (10,)


def features(wide_pairs: int = 0) -> onnx.ModelProto:
    """The graph up to its features (n, 2048): what the head is trained on."""
    return _model(_trunk(wide_pairs), FEATURE_COUNT)


def classifier(head: Head, wide_pairs: int = 0) -> onnx.ModelProto:
    """The whole graph: probabilities (n, 10)."""
    graph = _trunk(wide_pairs)
    graph.add("Gemm", head.weights, head.bias, transB=1)
    graph.add("Softmax", axis=1)
    graph.name_last(OUTPUT)
    return _model(graph, CLASSES)


def _trunk(wide_pairs: int) -> Graph:
    random = np.random.default_rng(_FILTER_SEED)
    graph = Graph()
    graph.convolve(he(random, _NARROW, 1))
    graph.pool()
    for _ in range(wide_pairs):
        _wide_pair(graph)
    graph.convolve(he(random, 32, _NARROW))
    graph.pool()
    graph.add("Flatten")
    graph.name_last(FEATURES)
    return graph


def _wide_pair(graph: Graph) -> None:
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


def _model(graph: Graph, width: int) -> onnx.ModelProto:
    return graph.model("digits_line", (1, SIDE, SIDE), (width,))
