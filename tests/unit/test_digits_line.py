"""The example's promises: the same seed is the same picture, nothing judged was learnt from, and the graph says what it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from contracts.canonical import sha256_hex
from contracts.features import FeatureSchema
from contracts.manifest import processing_spec
from examples.digits_line import dataset, network, train
from examples.digits_line.frames import write_frames
from examples.digits_line.renderer import SIDE, render
from examples.graph import run
from examples.trained import Trained, write


@pytest.fixture(scope="module")
def small() -> Any:
    """Real frames, few of them: 120 of training, 60 held out."""
    source = dataset.originals()
    return dataset._frames(source.training[:120], range(1)), dataset._frames(source.held_out[:60], range(1000, 1001))


def test_a_frame_is_its_seed_original_and_rendering() -> None:
    digit = dataset.originals().digits[0]
    assert np.array_equal(render(digit, 1, 2, 3), render(digit, 1, 2, 3))
    assert render(digit, 1, 2, 3).shape == (SIDE, SIDE)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(render(digit, 1, 2, 3), render(digit, *other))


def test_originals_are_split_before_anything_is_drawn() -> None:
    source = dataset.originals()
    assert not set(source.training) & set(source.held_out)
    assert sorted((*source.training, *source.held_out)) == list(range(1797))
    share = np.bincount(source.labels[list(source.held_out)]) / np.bincount(source.labels)
    assert share == pytest.approx(0.3, abs=0.01), "every class is judged alike"


def test_calibration_frames_are_training_frames(small: Any) -> None:
    training, held_out = small
    chosen = {frame.tobytes() for frame in dataset.calibration_frames(training)}
    assert len(chosen) == dataset.CALIBRATION_IMAGES
    assert chosen <= {frame.tobytes() for frame in training.pixels}
    assert not chosen & {frame.tobytes() for frame in held_out.pixels}


def test_the_data_digest_changes_with_any_label_or_pixel(small: Any) -> None:
    training, held_out = small
    before = dataset.digest(training, held_out)
    assert before == dataset.digest(training, held_out)
    assert before.startswith("dataset:sha256:")
    labels = training.labels.copy()
    labels[0] = (labels[0] + 1) % 10
    pixels = training.pixels.copy()
    pixels[5, 5, 5] ^= 1
    others = {
        dataset.digest(dataset.Frames(training.pixels, labels), held_out),
        dataset.digest(dataset.Frames(pixels, training.labels), held_out),
    }
    assert len({before, dataset.digest(held_out, training), *others}) == 4


def test_the_graph_is_what_backends_know() -> None:
    head = network.Head(np.ones((10, network.FEATURE_COUNT), np.float32), np.zeros(10, np.float32))
    model = network.classifier(head, wide_pairs=2)
    assert {node.op_type for node in model.graph.node} == {"Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Softmax"}
    assert [node.op_type for node in model.graph.node].count("Conv") == 2 + 2 * 2
    onnx.checker.check_model(model, full_check=True)


def test_wide_pairs_change_nothing_but_the_time() -> None:
    x = np.random.default_rng(1).normal(size=(3, 1, 32, 32)).astype(np.float32)
    narrow, wide = (run(network.features(pairs).SerializeToString(), x) for pairs in (0, 3))
    assert narrow == pytest.approx(wide, abs=1e-4)


def test_a_head_learns_and_eight_bits_could_hold_it(small: Any) -> None:
    training, held_out = small
    head = train._learn(train.preprocess(training.pixels), training.labels)
    metrics = train.evaluate(network.classifier(head).SerializeToString(), train.preprocess(held_out.pixels), held_out.labels)
    assert metrics["accuracy"] > 0.7, "a tenth of the data; chance is 0.1"
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    rows = np.abs(head.weights)
    assert float((rows.max(axis=1) / rows.mean(axis=1)).max()) < 20, "an outlier eats the range of an 8-bit weight"


def test_one_batch_is_mislabelled_in_v3_alone() -> None:
    swapped = {label: train._SWAPPED.get(label, label) for label in range(network.CLASSES)}
    assert {label for label, given in swapped.items() if label != given} == {3, 5, 8}
    assert sorted(swapped.values()) == list(range(network.CLASSES)), "every class keeps a label"
    assert [recipe.mislabelled for recipe in train.RECIPES.values()] == [False, False, True]


def test_what_is_written_is_what_registration_wants(small: Any, tmp_path: Path) -> None:
    training, held_out = small
    x = train.preprocess(held_out.pixels)
    digest = dataset.digest(training, held_out)
    trained = Trained(b"onnx", x[:4], x, held_out.labels, digest, {"p": "1"}, {"accuracy": 1.0}, train.PROCESSING, train.FEATURE_SCHEMA)
    write(trained, tmp_path, b"signature")
    with np.load(tmp_path / "held_out.npz", allow_pickle=False) as sets:
        assert (sets["x"].shape, sets["x"].dtype, sets["y"].dtype) == ((60, 1, 32, 32), np.float32, np.int64)
    assert processing_spec(json.loads((tmp_path / "processing.json").read_text())) == train.PROCESSING
    assert FeatureSchema.model_validate_json((tmp_path / "feature_schema.json").read_text()) == train.FEATURE_SCHEMA


def test_a_device_sees_frames_of_its_own_that_nobody_learnt(tmp_path: Path) -> None:
    labels = write_frames(tmp_path / "1", 5, device=1)
    assert write_frames(tmp_path / "again", 5, device=1) == labels
    write_frames(tmp_path / "2", 5, device=2)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == [f"frame-{number:05d}.png" for number in range(5)]
    with Image.open(tmp_path / "1" / names[0]) as frame:
        assert (frame.size, frame.mode) == ((SIDE, SIDE), "L")
    digests = [{sha256_hex(path.read_bytes()) for path in (tmp_path / folder).iterdir()} for folder in ("1", "again", "2")]
    assert digests[0] == digests[1]
    assert not digests[0] & digests[2]
