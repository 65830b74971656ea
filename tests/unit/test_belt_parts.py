"""The detector's example: drawn truth is true, nothing judged was learnt from, and trainer, builder and device come to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from contracts.errors import RejectedError
from contracts.features import FeatureSchema
from contracts.manifest import TensorSpec
from control_plane.build import figures, source
from edge_agent.pipeline.sources import open_source
from examples.belt_parts import dataset, network, train
from examples.belt_parts.frames import write_frames
from examples.belt_parts.scene import CLASSES, HEIGHT, MOST_PARTS, RAIL, WIDTH, draw
from examples.graph import run
from examples.trained import Trained, write
from processing import pipeline
from processing.rows import RowMaker

PROCESSING = pipeline.compile(train.PROCESSING)
INPUT = TensorSpec(name="x", dtype="f32", shape=(1, 1, network.HEIGHT, network.WIDTH))
OUTPUT = TensorSpec(name="grid", dtype="f32", shape=(1, network.VALUES, network.ROWS, network.COLUMNS))


@pytest.fixture(scope="module")
def learnt() -> Any:
    """(model, held-out frames) of a quick training."""
    training, held_out = dataset.training_frames(120), dataset.held_out_frames(60)
    head = train.learn(train.preprocess(training.pixels), training.labels)
    return network.detector(head).SerializeToString(), held_out


def test_a_frame_is_its_seed_and_number() -> None:
    one, again, other = draw(1, 2), draw(1, 2), draw(1, 3)
    assert np.array_equal(one.frame, again.frame)
    assert np.array_equal(one.boxes, again.boxes)
    assert not np.array_equal(one.frame, other.frame)
    assert one.frame.shape == (HEIGHT, WIDTH)
    assert one.frame.dtype == np.uint8


def test_parts_lie_on_the_belt_apart_and_are_brighter_than_it() -> None:
    scenes = [draw(1, number) for number in range(60)]
    assert {len(scene.boxes) for scene in scenes} == set(range(MOST_PARTS + 1))
    assert {int(label) for scene in scenes for label in scene.boxes[:, 0]} == set(range(len(CLASSES)))
    for scene in scenes:
        off_the_parts = scene.frame.astype(float)
        for _, left, top, right, bottom in scene.boxes.astype(int):
            assert 0 <= left < right <= WIDTH
            assert RAIL <= top < bottom <= HEIGHT - RAIL
            assert scene.frame[top:bottom, left:right].max() > 130
            assert np.isfinite(off_the_parts[top:bottom, left:right]).all(), "two boxes share a pixel"
            off_the_parts[top:bottom, left:right] = np.nan
        assert np.nanmax(off_the_parts) < 150, "something bright lies outside of every box"


def test_what_trains_what_judges_and_what_devices_see_never_meet() -> None:
    assert max(train.RECIPES.values()) < dataset.HELD_OUT_FROM
    assert dataset.HELD_OUT_FROM + dataset.HELD_OUT < dataset.DEVICES_FROM
    drawn = {dataset.device_scene(device, 0).frame.tobytes() for device in (1, 2)}
    drawn |= {frame.tobytes() for part in (dataset.training_frames(3), dataset.held_out_frames(3)) for frame in part.pixels}
    assert len(drawn) == 8


def test_the_data_digest_changes_with_any_box_or_pixel() -> None:
    part = dataset.training_frames(4)
    pixels, labels = part.pixels.copy(), part.labels.copy()
    pixels[1, 30, 40] ^= 1
    labels[0, 0, 1] += 0.001
    digests = [
        dataset.digest(dataset.Frames(*frames)) for frames in ((part.pixels, part.labels), (pixels, part.labels), (part.pixels, labels))
    ]
    assert len(set(digests)) == 3
    assert dataset.digest(part) == digests[0]


def test_the_targets_of_training_are_what_processing_reads() -> None:
    """A grid that says exactly what training wants of each cell gives every part, once, where it is."""
    labels = dataset.held_out_frames(40).labels
    number, place = train.targets(labels)
    for label, cells, sizes in zip(labels, number, place, strict=True):
        logits = np.stack([np.where(np.maximum(cells, 0) == known, 9.0, -9.0) for known in range(len(CLASSES) + 1)])
        answer = PROCESSING.post(np.concatenate([logits, sizes.transpose(2, 0, 1)]))
        assert PROCESSING.agree(answer, PROCESSING.truth(label))
        wanted = sorted(PROCESSING.truth(label)["boxes"], key=lambda box: box[2:])
        for one, other in zip(sorted(answer["boxes"], key=lambda box: box[2:]), wanted, strict=True):
            assert one[2:] == pytest.approx(other[2:], abs=1e-3)


def test_the_graph_is_what_backends_know() -> None:
    head = network.Head(np.ones((network.VALUES, 96, 3, 3), np.float32), np.zeros(network.VALUES, np.float32))
    model = network.detector(head)
    assert {node.op_type for node in model.graph.node} == {"Conv", "Relu", "MaxPool"}
    onnx.checker.check_model(model, full_check=True)
    assert source._tensors(model.SerializeToString()) == (INPUT, OUTPUT)


def test_a_detector_learns(learnt: Any) -> None:
    model, held_out = learnt
    metrics = train.evaluate(model, train.preprocess(held_out.pixels), held_out.labels)
    assert metrics["f1"] > 0.75, "a fifteenth of the data"
    assert metrics["f1_low"] < metrics["f1"] < metrics["f1_high"]
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]


def test_trainer_builder_and_device_come_to_the_same_bytes(learnt: Any, tmp_path: Path) -> None:
    model, held_out = learnt
    scenes = write_frames(tmp_path / "frames", 8, device=1)
    trained = Trained(
        model, train.preprocess(held_out.pixels), train.preprocess(held_out.pixels), held_out.labels, "dataset:sha256:0", {}, {},
        train.PROCESSING, train.FEATURE_SCHEMA,
    )  # fmt: skip
    write(trained, tmp_path / "out", b"signature")
    registered = (tmp_path / "out" / "processing.json").read_bytes()
    builders = source._processing(registered, INPUT, OUTPUT, train.FEATURE_SCHEMA)
    devices = pipeline.compile(pipeline.read(registered))
    camera = open_source({"kind": "folder", "path": str(tmp_path / "frames")})
    by_trainer = train.preprocess(np.stack([scene.frame for scene in scenes]))
    by_builder = builders.many([scene.frame for scene in scenes])
    by_device = np.concatenate([devices(camera.take(number)) for number in range(len(scenes))])
    assert by_trainer.tobytes() == by_builder.tobytes() == by_device.tobytes()
    grids, view = run(model, by_trainer), devices.view((HEIGHT, WIDTH))
    answers = [json.dumps([processing.post(grid, view) for grid in grids]) for processing in (PROCESSING, builders, devices)]
    assert len(set(answers)) == 1


def test_what_is_written_the_builder_takes(learnt: Any, tmp_path: Path) -> None:
    model, held_out = learnt
    x = train.preprocess(held_out.pixels)
    write(Trained(model, x[:8], x, held_out.labels, "d", {}, {}, train.PROCESSING, train.FEATURE_SCHEMA), tmp_path, b"")
    labels = source._labels((tmp_path / "held_out.npz").read_bytes(), PROCESSING)
    assert np.array_equal(labels, held_out.labels)
    assert FeatureSchema.model_validate_json((tmp_path / "feature_schema.json").read_text()) == train.FEATURE_SCHEMA


def test_a_frame_without_parts_is_a_row_whose_best_box_is_null() -> None:
    make = RowMaker([column.model_dump() for column in train.FEATURE_SCHEMA.columns], PROCESSING.keys)
    nothing = np.zeros(OUTPUT.shape)
    nothing[0, 0] = 9
    row = dict(zip([column.name for column in train.FEATURE_SCHEMA.columns], make(1, 2, 3, PROCESSING.post(nothing)), strict=True))
    assert (row["count"], row["count_nut"], row["best_class"], row["best_left"], row["boxes"]) == (0, 0, None, None, "[]")


# -- figures of a detector


def answer(*boxes: tuple[str, float, float]) -> dict[str, Any]:
    """Boxes of side 1 by class and corner."""
    return {"boxes": [[name, 0.9, left, top, left + 1, top + 1] for name, left, top in boxes]}


TRUTH = [answer(("bolt", 0, 0), ("nut", 3, 0)), answer(("nut", 0, 0)), answer(), answer(("washer", 0, 0))]


def test_a_frame_is_right_when_all_its_boxes_are_and_no_other() -> None:
    seen = [answer(("nut", 3.2, 0), ("bolt", 0, 0.3)), answer(("nut", 0, 0), ("nut", 5, 5)), answer(), answer(("nut", 0, 0))]
    assert [PROCESSING.agree(one, truth) for one, truth in zip(seen, TRUTH, strict=True)] == [True, False, True, False]
    measured = figures.accuracy(seen, TRUTH, TRUTH, PROCESSING)
    assert (measured.quantized, measured.fp32, measured.samples) == (0.5, 1.0, 4)
    assert measured.detection is not None
    assert tuple(measured.detection) == (3, 2, 1), "found, extra, missed"
    assert measured.detection.f1 == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    low, high = measured.detection.f1_interval
    assert 0 < low < measured.detection.f1 < high < 1
    assert measured.per_class == {"bolt": 1.0, "nut": pytest.approx(2 / 3), "washer": 0.0}
    assert figures.agreement(seen, TRUTH, PROCESSING) == 0.5


def test_an_answer_of_another_form_never_agrees() -> None:
    labelling = pipeline.compile({"pre": [], "post": [{"op": "top1"}]})
    assert not PROCESSING.agree(answer(), {"label": 1, "score": 0.5})
    assert not labelling.agree({"label": 1, "score": 0.5}, answer())


def test_nothing_to_find_and_nothing_found_is_all_that_could_be_done() -> None:
    measured = figures.accuracy([answer()] * 3, TRUTH[2:3] * 3, [answer()] * 3, PROCESSING)
    assert measured.detection is not None
    assert (measured.quantized, measured.detection.f1, measured.detection.f1_interval) == (1.0, 1.0, (0.0, 1.0))


def test_the_largest_value_of_a_grid_is_no_golden_answer() -> None:
    grids = np.random.default_rng(1).normal(size=(16, 8, 8, 12)).astype(np.float32)
    tolerance = figures.tolerance(grids[::-1], grids, PROCESSING)
    assert (tolerance.top1_agreement, tolerance.answer_agreement) == (0.0, 0.0)
    assert figures.tolerance(grids + np.float32(1e-3), grids, PROCESSING).answer_agreement == 1 - 1 / 16


@pytest.mark.parametrize(
    "spoil",
    [
        lambda y: y.astype(np.float64), lambda y: y[..., :4], lambda y: y[:, 0], lambda y: np.where(y == -1, -2, y),
        lambda y: np.where(y[..., :1] >= 0, 3, y), lambda y: y + np.float32(0.5), lambda y: np.where(np.isfinite(y), np.nan, y),
        lambda y: np.concatenate([y[..., :1], y[..., :0:-1]], axis=2),
    ],
)  # fmt: skip
def test_boxes_that_are_none_are_refused(spoil: Any, tmp_path: Path) -> None:
    labels = dataset.held_out_frames(12).labels
    np.savez(tmp_path / "held_out.npz", y=spoil(labels).astype(spoil(labels).dtype))
    with pytest.raises(RejectedError) as refused:
        source._labels((tmp_path / "held_out.npz").read_bytes(), PROCESSING)
    assert refused.value.code == "BUILD_SOURCE"
