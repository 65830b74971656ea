"""Small bundles with a real ONNX model: one seeded matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from contracts.manifest import Manifest
from tests.simulators.bundles import CLASSES, SIDE, golden_inputs, write_slot


def weights(seed: int = 3) -> Any:
    return np.random.default_rng(seed).standard_normal((SIDE * SIDE, CLASSES)).astype(np.float32)


def onnx_model(matrix: Any) -> bytes:
    """Flatten and one Gemm: logits."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(matrix, "w")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def onnx_slot(root: Path, seed: int = 3, **changes: Any) -> tuple[str, Path, Manifest]:
    """(digest, slot folder, manifest) of a bundle whose model is a seeded linear one."""
    matrix, inputs = weights(seed), golden_inputs()
    outputs = inputs.reshape(len(inputs), -1) @ matrix
    return write_slot(root, "onnxruntime", "model.onnx", onnx_model(matrix), (inputs, outputs), changes)
