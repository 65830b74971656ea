"""Trains the classifier by one of three recipes and writes what `register` sends: model, sets, specs, metrics, signature.

    v1  one rendering of each training original                  about 93.7 % of the held-out frames are right
    v2  six renderings                                           about 97.8 %
    v3  six renderings, one mislabelled batch, 20 wide pairs     about 68 %, and tens of times slower

v3 is a release that should never have been made, for reasons that happen: somebody swapped labels, and the network grew. The demo
registers the recipes as the versions of their numbers; nothing but their order says so.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from contracts.features import FRAME_COLUMNS, Column, FeatureSchema
from examples.digits_line import dataset, network
from examples.digits_line.dataset import Frames, Labels
from processing import pipeline
from program.files import write_durably

Array = NDArray[np.float32]
Progress = Callable[[str], None]

MODEL_NAME = "digits_line"
REGULARIZATION = 0.05  # scikit-learn's C
_ITERATIONS = 300  # far above what it takes once features are standardized (about 50)
_TOLERANCE = 3e-4
_FEATURE_BATCH = 256

PROCESSING = {
    "pre": [
        {"op": "grayscale"},
        {"op": "resize", "height": network.SIDE, "width": network.SIDE, "method": "box"},
        {"op": "standardize"},
        {"op": "layout", "order": "NCHW"},
    ],
    "post": [{"op": "top1"}],
}
FEATURE_SCHEMA = FeatureSchema(
    family=MODEL_NAME,
    columns=(*FRAME_COLUMNS, Column(name="label", type="i16", min=0, max=9), Column(name="score", type="f32", min=0, max=1)),
)


@dataclass(frozen=True)
class Recipe:
    """What distinguishes them. `held_out_every` = 3 judges on a third: the wide graph takes 18 ms a frame in fp32."""

    renderings: int
    mislabelled: bool = False
    wide_pairs: int = 0
    held_out_every: int = 1


RECIPES = {
    1: Recipe(renderings=1),
    2: Recipe(renderings=6),
    3: Recipe(renderings=6, mislabelled=True, wide_pairs=20, held_out_every=3),
}
_SWAPPED = {3: 5, 5: 8, 8: 3}  # how the mislabelled batch was labelled


@dataclass(frozen=True)
class Trained:
    """Everything that goes to the registry. Sets are pre-processed: (n, 1, 32, 32) float32."""

    model: bytes
    calibration: Array
    held_out: Array
    held_out_labels: Labels
    data_digest: str
    params: dict[str, str]
    metrics: dict[str, float]


def train(recipe_no: int, say: Progress) -> Trained:
    """Draw, pre-process, learn the head, evaluate. Deterministic: the same recipe is the same bytes on one machine."""
    recipe = RECIPES[recipe_no]
    say(f"recipe {recipe_no}: drawing {recipe.renderings} frames of each training digit")
    training, held_out = _labelled(recipe), dataset.held_out_frames(recipe.held_out_every)
    say(f"recipe {recipe_no}: pre-processing {len(training.pixels)} + {len(held_out.pixels)} frames")
    x, judge = preprocess(training.pixels), preprocess(held_out.pixels)
    say(f"recipe {recipe_no}: learning the head")
    model = network.classifier(_learn(x, training.labels), recipe.wide_pairs).SerializeToString()
    say(f"recipe {recipe_no}: evaluating on {len(judge)} held-out frames")
    metrics = evaluate(model, judge, held_out.labels)
    calibration = preprocess(dataset.calibration_frames(training))
    return Trained(model, calibration, judge, held_out.labels, dataset.digest(training, held_out), _params(recipe), metrics)


def _labelled(recipe: Recipe) -> Frames:
    frames = dataset.training_frames(recipe.renderings)
    if not recipe.mislabelled:
        return frames
    labels = np.array([_SWAPPED.get(int(label), int(label)) for label in frames.labels], np.int64)
    return Frames(frames.pixels, labels)


def preprocess(pixels: NDArray[np.uint8]) -> Array:
    """(n, 64, 64) grey -> (n, 1, 32, 32) float32, by the one implementation that the device uses too."""
    return np.asarray(pipeline.compile(PROCESSING).many(list(pixels)), np.float32)


def _learn(x: Array, labels: Labels) -> network.Head:
    """Learn on features that are centred and scaled as a whole, then fold both into the head.

    One scale for all: with one for each feature the head would give rare features huge weights, and eight bits cannot hold
    both them and the others (ten points of accuracy, measured).
    """
    features = _run(network.features().SerializeToString(), x)
    mean, scale = features.mean(axis=0), float(features.std())
    learner = LogisticRegression(C=REGULARIZATION, max_iter=_ITERATIONS, tol=_TOLERANCE)
    with threadpool_limits(1):  # threads that spin for each other cost eight times the time on a busy machine
        learnt = learner.fit((features - mean) / scale, labels)
    weights = learnt.coef_ / scale
    return network.Head(weights.astype(np.float32), (learnt.intercept_ - weights @ mean).astype(np.float32))


def _run(model: bytes, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {network.INPUT: x[start : start + _FEATURE_BATCH]})[0] for start in range(0, len(x), _FEATURE_BATCH)]
    return np.concatenate(parts)


def evaluate(model: bytes, x: Array, labels: Labels) -> dict[str, float]:
    """Share of right answers with its 95 % Wilson interval, and the same per class."""
    right = _run(model, x).argmax(axis=1) == labels
    low, high = wilson_interval(int(right.sum()), len(right))
    per_class = {f"accuracy_class_{label}": float(right[labels == label].mean()) for label in range(network.CLASSES)}
    return {"accuracy": float(right.mean()), "accuracy_low": low, "accuracy_high": high, "samples": float(len(right)), **per_class}


def wilson_interval(right: int, samples: int, z: float = 1.96) -> tuple[float, float]:
    """Interval that holds the true share with 95 % confidence (z = 1.96), also near 0 and 1."""
    share, square = right / samples, z * z
    centre = (share + square / (2 * samples)) / (1 + square / samples)
    half = z / (1 + square / samples) * math.sqrt(share * (1 - share) / samples + square / (4 * samples * samples))
    return centre - half, centre + half


def _params(recipe: Recipe) -> dict[str, str]:
    return {
        "renderings": str(recipe.renderings),
        "labels": "one batch mislabelled 3>5>8>3" if recipe.mislabelled else "as bundled with scikit-learn",
        "wide_pairs": str(recipe.wide_pairs),
        "head": f"LogisticRegression(C={REGULARIZATION})",
        "split": f"by original digit, seed {dataset.SEED}, {dataset.HELD_OUT_SHARE:.0%} held out",
    }


def write(trained: Trained, out: Path, signature: bytes) -> None:
    """The files of one version; `run.json` holds what is not a file of its own."""
    files = {
        "model.onnx": trained.model,
        "model.sig": signature,
        "calibration.npz": _npz(x=trained.calibration),
        "held_out.npz": _npz(x=trained.held_out, y=trained.held_out_labels),
        "processing.json": _json(PROCESSING),
        "feature_schema.json": _json(FEATURE_SCHEMA.model_dump(mode="json")),
        "run.json": _json({"params": trained.params, "metrics": trained.metrics, "data_digest": trained.data_digest}),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_durably(out / name, content)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def _npz(**arrays: NDArray[np.float32] | Labels) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub takes **kwds for allow_pickle
    return buffer.getvalue()
