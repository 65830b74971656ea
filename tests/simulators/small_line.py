"""A training side in miniature: a small real convolution net, its data, and everything that a registration holds.

The net is seeded and separates three patterns well enough for accuracy to mean something. Shapes: x (n, 1, 8, 8), y (n,).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from contracts.canonical import canonical_json, sha256_hex
from contracts.features import FRAME_COLUMNS, Column, FeatureSchema
from contracts.release import BuildJob, ModelRegistration, ModelVersion
from signatures import model_signature

CLASSES = 3
LABELS = ["bolt", "nut", "none"]


def small_model(seed: int = 7) -> bytes:
    """Conv 3x3 1->4, ReLU, Flatten, Gemm 256->3, Softmax. The head is the class means of the features: no training loop."""
    rng = np.random.default_rng(seed)
    conv = rng.normal(0, 0.5, (4, 1, 3, 3)).astype(np.float32)
    x, y = small_data(90, seed=1)
    features = _features(conv, x)
    head = np.stack([features[y == label].mean(axis=0) for label in range(CLASSES)], axis=1).astype(np.float32)
    bias = (-0.5 * (head**2).sum(axis=0)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "conv_w", "conv_b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "head_w", "head_b"], ["g"], name="gemm"),
        helper.make_node("Softmax", ["g"], ["probabilities"], name="softmax"),
    ]
    constants = {"conv_w": conv, "conv_b": np.zeros(4, np.float32), "head_w": head, "head_b": bias}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def small_data(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Bars along a row, a column or the diagonal, with noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n, dtype=np.int64) % CLASSES
    x = rng.normal(0, 0.3, (n, 1, 8, 8)).astype(np.float32)
    for image, label in zip(x, y):
        place = 2 + int(rng.integers(0, 4))
        if label == 0:
            image[0, place, :] += 1
        elif label == 1:
            image[0, :, place] += 1
        else:
            image[0] += np.eye(8, dtype=np.float32)
    return x, y


def feature_schema() -> FeatureSchema:
    return FeatureSchema(family="small", columns=(*FRAME_COLUMNS, Column(name="label", type="i16", min=0, max=CLASSES - 1)))


@dataclass(frozen=True)
class Registered:
    """A registration and the bytes behind each of its digests."""

    registration: ModelRegistration
    blobs: dict[str, bytes]

    @property
    def version(self) -> ModelVersion:
        return ModelVersion(name="small", version=1, run="run:0123", registration=self.registration)

    def job(self, profiles: tuple[str, ...], number: int = 1, incumbents: dict[str, str] | None = None) -> BuildJob:
        return BuildJob(
            id=f"build-{number}", name="small", number=number, profiles=profiles, security_epoch=1, model_version=self.version,
            incumbents=incumbents or {},
        )  # fmt: skip


def register(model_key_pem: bytes, model: bytes | None = None, **changed: bytes) -> Registered:
    """Sign and register the small model; `changed` replaces files of the registration by other bytes (field name -> bytes)."""
    model = model or small_model()
    x, y = small_data(150, seed=2)
    files = {
        "model": model,
        "calibration": npz(x=small_data(24, seed=3)[0]),
        "held_out": npz(x=x, y=y),
        "signature": model_signature.sign(model_key_pem, {"model.onnx": sha256_hex(model)}),
        "processing": canonical_json({"pre": [], "post": [{"op": "top1"}], "labels": LABELS}),
        "feature_schema": canonical_json(feature_schema().model_dump(mode="json")),
        **changed,
    }
    registration = ModelRegistration(data_digest="dataset:sha256:" + "1" * 64, **{name: sha256_hex(data) for name, data in files.items()})
    return Registered(registration, {sha256_hex(data): data for data in files.values()})


def npz(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _features(conv: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(x[:, 0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    features: NDArray[np.float32] = np.maximum(np.einsum("nhwij,oij->nohw", windows, conv[:, 0]), 0).reshape(len(x), -1)
    return features


def external_data_model() -> bytes:
    """The same net with one weight that claims to lie in another file."""
    model = onnx.load_model_from_string(small_model())
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    tensor.ClearField("raw_data")
    return bytes(model.SerializeToString())
