"""ONNX models of the benchmarks, with random weights: what they answer means nothing, how long they take does."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Node = Any


class Graph:
    """Nodes one after the other; each method takes the name of a value and gives the name of its result."""

    def __init__(self, seed: int = 2) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[Node] = []
        self._tensors: list[Any] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int) -> str:
        values = (self._random.standard_normal(shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32)
        self._tensors.append(numpy_helper.from_array(values, f"w{len(self._tensors)}"))
        return str(self._tensors[-1].name)

    def conv(self, value: str, channels: tuple[int, int], size: int, stride: int = 1) -> str:
        """`channels`: in, out."""
        weight = self.weight(channels[1], channels[0], size, size)
        return self.add("Conv", value, weight, pads=[size // 2] * 4, strides=[stride] * 2)

    def dense(self, value: str, sizes: tuple[int, int]) -> str:
        """`sizes`: in, out."""
        return self.add("Gemm", value, self.weight(sizes[1], sizes[0]), transB=1)

    def model(self, input_shape: tuple[int, ...], output: str, output_shape: tuple[int, ...]) -> bytes:
        self._nodes.append(helper.make_node("Identity", [output], ["y"]))
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", input_shape), ("y", output_shape))]
        graph = helper.make_graph(self._nodes, "benchmark", ends[:1], ends[1:], self._tensors)
        return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def mlp(width: int = 64, hidden: int = 32, classes: int = 8) -> bytes:
    """(1, width) -> (1, classes): two layers, a few microseconds."""
    graph = Graph()
    value = graph.add("Relu", graph.dense("x", (width, hidden)))
    return graph.model((1, width), graph.dense(value, (hidden, classes)), (1, classes))


def convolutions(planes: int, side: int, channels: int, layers: int) -> bytes:
    """(1, planes, side, side) -> (1, channels): `layers` of 3 x 3, then the mean of each channel."""
    graph, value, depth = Graph(), "x", planes
    for _ in range(layers):
        value, depth = graph.add("Relu", graph.conv(value, (depth, channels), 3)), channels
    return graph.model((1, planes, side, side), _mean(graph, value), (1, channels))


def pooled(planes: int = 3, side: int = 224, classes: int = 8) -> bytes:
    """(1, planes, side, side) -> (1, classes): the mean of each plane and a layer: much input, little computing."""
    graph = Graph()
    return graph.model((1, planes, side, side), graph.dense(_mean(graph, "x"), (planes, classes)), (1, classes))


def resnet18(width: int = 16, side: int = 224, classes: int = 10) -> bytes:
    """(1, 3, side, side) -> (1, classes): ResNet-18 (He et al., 2015) with `width` channels in its first stage instead of 64."""
    graph = Graph()
    value = graph.add("Relu", graph.conv("x", (3, width), 7, 2))
    value = graph.add("MaxPool", value, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    depth = width
    for stage in range(4):
        channels = width << stage
        for block in range(2):
            value, depth = _block(graph, value, (depth, channels), 2 if stage and not block else 1), channels
    return graph.model((1, 3, side, side), graph.dense(_mean(graph, value), (depth, classes)), (1, classes))


def _block(graph: Graph, value: str, channels: tuple[int, int], stride: int) -> str:
    aside = value if channels[0] == channels[1] else graph.conv(value, channels, 1, stride)
    inner = graph.add("Relu", graph.conv(value, channels, 3, stride))
    return graph.add("Relu", graph.add("Add", graph.conv(inner, (channels[1], channels[1]), 3), aside))


def _mean(graph: Graph, value: str) -> str:
    return graph.add("Flatten", graph.add("GlobalAveragePool", value))
