"""Trains the detector by one of two recipes, on one core, without back-propagation: the head is fitted cell by cell.

    v1   250 frames
    v2  1600 frames

Each cell of the grid is one sample: the features of 3 x 3 cells, and what lies there. Logistic regression learns nothing or class, ridge
regression where the part lies; both are linear in the features, so together they are the last convolution of the graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from contracts.features import FRAME_COLUMNS, Column, FeatureSchema
from examples.belt_parts import dataset, network
from examples.belt_parts.dataset import Frames, Labels
from examples.belt_parts.network import COLUMNS, KERNEL, ROWS
from examples.belt_parts.scene import CLASSES, HEIGHT, RAIL, WIDTH
from examples.command_line import Progress
from examples.graph import run
from examples.trained import Trained
from processing import pipeline
from processing.scores import score
from processing.wilson import wilson

Array = NDArray[np.float32]

MODEL_NAME = "belt_parts"
RECIPES = {1: 250, 2: 1600}  # frames that train
REGULARIZATION, RIDGE = 0.005, 100.0  # scikit-learn's C and alpha
_ITERATIONS, _TOLERANCE = 300, 1e-3
_IS_PART, _NEAR_PART = 0.6, 0.9  # cells between a cell's middle and a part's: up to here it is the part, up to there it is left out
_NOTHING_SHARE = 0.35  # of the cells with nothing in them: there are twenty times as many as others

PROCESSING: dict[str, Any] = {
    "pre": [
        {"op": "crop", "top": RAIL, "left": 0, "height": HEIGHT - 2 * RAIL, "width": WIDTH},
        {"op": "grayscale"},
        {"op": "resize", "height": network.HEIGHT, "width": network.WIDTH, "method": "box"},
        {"op": "normalize", "mean": [90], "std": [45]},
        {"op": "layout", "order": "NCHW"},
    ],
    "post": [
        {"op": "grid_boxes", "classes": list(CLASSES), "rows": ROWS, "columns": COLUMNS},
        {"op": "threshold", "score": 0.6},
        {"op": "nms", "iou": 0.2},
        {"op": "boxes", "most": 16},
    ],
    "windows": [
        {
            "name": "five_seconds",
            "every_s": 5,
            "features": [
                *({"name": f"mean_{name}", "how": "mean", "of": f"count_{name}"} for name in CLASSES),
                {"name": "most_parts", "how": "max", "of": "count"},
                {"name": "empty_share", "how": "share", "of": "count", "value": 0},
                {"name": "mean_best_score", "how": "mean", "of": "best_score"},
                {"name": "std_best_score", "how": "std", "of": "best_score"},
                {"name": "p10_best_score", "how": "quantile", "of": "best_score", "q": 0.1, "most": 1000},
                {"name": "parts_per_second", "how": "per_second", "of": "count"},
            ],
        }
    ],
}
_COUNTS = tuple(Column(name=name, type="i32", min=0, max=16) for name in ("count", *(f"count_{name}" for name in CLASSES)))
_EDGES = (("best_left", WIDTH), ("best_top", HEIGHT), ("best_right", WIDTH), ("best_bottom", HEIGHT))
FEATURE_SCHEMA = FeatureSchema(
    family=MODEL_NAME,
    columns=(
        *FRAME_COLUMNS,
        *_COUNTS,
        Column(name="best_class", type="utf8", nullable=True),
        Column(name="best_score", type="f32", nullable=True, min=0, max=1),
        *(Column(name=name, type="f32", nullable=True, min=0, max=most) for name, most in _EDGES),
        Column(name="boxes", type="utf8"),
    ),
)


def train(recipe_no: int, say: Progress) -> Trained:
    """Draw, pre-process, learn the head, evaluate. Deterministic: the same recipe is the same bytes on one machine."""
    count = RECIPES[recipe_no]
    say(f"recipe {recipe_no}: drawing {count} + {dataset.HELD_OUT} frames")
    training, held_out = dataset.training_frames(count), dataset.held_out_frames()
    say(f"recipe {recipe_no}: pre-processing")
    x, judge = preprocess(training.pixels), preprocess(held_out.pixels)
    say(f"recipe {recipe_no}: learning the head from {count * ROWS * COLUMNS} cells")
    model = network.detector(learn(x, training.labels)).SerializeToString()
    say(f"recipe {recipe_no}: evaluating on {len(judge)} held-out frames")
    metrics = evaluate(model, judge, held_out.labels)
    calibration = preprocess(dataset.calibration_frames(training))
    digest = dataset.digest(training, held_out)
    return Trained(model, calibration, judge, held_out.labels, digest, _params(training), metrics, PROCESSING, FEATURE_SCHEMA)


def preprocess(pixels: NDArray[np.uint8]) -> Array:
    """(n, 160, 192) grey -> (n, 1, 64, 96) float32, by the one implementation that the device uses too."""
    return np.asarray(pipeline.compile(PROCESSING).many(list(pixels)), np.float32)


def learn(x: Array, labels: Labels) -> network.Head:
    """Learn on features that are centred and scaled as a whole, then fold both into the head; one scale, so that eight bits can hold it."""
    number, place = targets(labels)
    chosen = _chosen(number)
    cells = _neighbourhoods(run(network.features().SerializeToString(), x), chosen)
    number, place = number[chosen], place[chosen]
    mean, scale = cells.mean(axis=0), float(cells.std())
    cells = (cells - mean) / scale
    classed, placed = number >= 0, number != 0
    with threadpool_limits(1):  # threads that spin for each other cost eight times the time on a busy machine
        classes = LogisticRegression(C=REGULARIZATION, max_iter=_ITERATIONS, tol=_TOLERANCE).fit(cells[classed], number[classed])
        places = Ridge(alpha=RIDGE).fit(cells[placed], place[placed])
    weights = np.concatenate([classes.coef_, places.coef_]) / scale
    bias = np.concatenate([classes.intercept_, places.intercept_]) - weights @ mean
    return network.Head(weights.reshape(network.VALUES, -1, KERNEL, KERNEL).astype(np.float32), bias.astype(np.float32))


def _neighbourhoods(features: Array, chosen: NDArray[np.bool_]) -> Array:
    """(n, channels, rows, columns) -> (chosen cells, channels x 3 x 3): what the head's convolution sees of each."""
    edge = KERNEL // 2
    padded = np.pad(features, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(2, 3))
    return seen.transpose(0, 2, 3, 1, 4, 5)[chosen].reshape(int(chosen.sum()), -1)


def targets(labels: Labels) -> tuple[NDArray[np.int64], Array]:
    """(n, rows, columns): 0 nothing, 1 + class, or -1 near a part and neither. (n, rows, columns, 4): where the nearest part lies from the
    cell's middle, right and down, and how wide and high it is, in cells."""
    number = np.zeros((len(labels), ROWS, COLUMNS), np.int64)
    place = np.zeros((len(labels), ROWS, COLUMNS, 4), np.float32)
    down, across = np.mgrid[0:ROWS, 0:COLUMNS] + 0.5
    for frame, parts in enumerate(labels):
        nearest = np.full((ROWS, COLUMNS), _NEAR_PART)
        for label, left, top, right, bottom in parts[parts[:, 0] >= 0]:
            apart = (left + right) / 2 * COLUMNS - across, (top + bottom) / 2 * ROWS - down
            distance = np.maximum(*np.abs(apart))
            here = distance < nearest
            nearest[here] = distance[here]
            number[frame][here] = np.where(distance[here] < _IS_PART, int(label) + 1, -1)
            size = (np.full_like(distance, side) for side in ((right - left) * COLUMNS, (bottom - top) * ROWS))
            place[frame][here] = np.stack([*apart, *size], axis=2)[here]
    return number, place


def _chosen(number: NDArray[np.int64]) -> NDArray[np.bool_]:
    """All cells near a part, and a seeded share of those with nothing."""
    drawn = np.random.default_rng(dataset.SEED).random(number.shape)
    chosen: NDArray[np.bool_] = (number != 0) | (drawn < _NOTHING_SHARE)
    return chosen


def evaluate(model: bytes, x: Array, labels: Labels) -> dict[str, float]:
    """Share of frames whose boxes are all right, and F1 of the boxes at IoU 0.5, both with their 95 % interval."""
    processing = pipeline.compile(PROCESSING)
    answers, truths = [processing.post(grid) for grid in run(model, x)], [processing.truth(label) for label in labels]
    right = sum(processing.agree(answer, truth) for answer, truth in zip(answers, truths, strict=True))
    (low, high), boxes = wilson(right, len(x)), score(answers, truths, CLASSES)
    return {
        "accuracy": right / len(x), "accuracy_low": low, "accuracy_high": high, "samples": float(len(x)),
        "f1": boxes.f1, "f1_low": boxes.f1_interval[0], "f1_high": boxes.f1_interval[1],
        "precision": boxes.precision, "recall": boxes.recall,
        **{f"f1_class_{name}": score(answers, truths, [name]).f1 for name in CLASSES},
    }  # fmt: skip


def _params(training: Frames) -> dict[str, str]:
    return {
        "frames": str(len(training.pixels)),
        "parts": str(int((training.labels[..., 0] >= 0).sum())),
        "head": f"LogisticRegression(C={REGULARIZATION}), Ridge(alpha={RIDGE:g}) per cell",
        "split": f"each frame drawn by its number, seed {dataset.SEED}",
    }
