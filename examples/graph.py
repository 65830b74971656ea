"""Writing and running small convolutional ONNX graphs: what the examples' networks share.

Random He filters followed by a linear head that is learnt are a real convolutional network for everything downstream (per-channel
quantization, TensorRT, the linter) and need no back-propagation of our own. Features are computed by ONNX Runtime from the very
graph that the head is put onto, so there is no second implementation that could differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]

INPUT = "x"
_OPSET = 17
_IR_VERSION = 8  # what ONNX Runtime 1.19 and TensorRT 8.6 read
_RUN_BATCH = 256


class Graph:
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

    def model(self, name: str, taken: tuple[int, ...], given: tuple[int, ...]) -> onnx.ModelProto:
        """A checked model from INPUT (n, *taken) to the last tensor (n, *given)."""
        value = helper.make_tensor_value_info
        inputs = [value(INPUT, TensorProto.FLOAT, ["n", *taken])]
        proto = helper.make_graph(self.nodes, name, inputs, [value(self.last, TensorProto.FLOAT, ["n", *given])], self.weights)
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name=f"skerry-{name}".replace("_", "-"))
        model.ir_version = _IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model


def he(random: np.random.Generator, out: int, into: int) -> Array:
    """Filters (out, into, 3, 3)."""
    return random.normal(0, np.sqrt(2 / (into * 9)), (out, into, 3, 3)).astype(np.float32)


def run(model: bytes, x: Array) -> Array:
    """The outputs for all of `x`, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {INPUT: x[start : start + _RUN_BATCH]})[0] for start in range(0, len(x), _RUN_BATCH)])
