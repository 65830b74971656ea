"""Specifications that come with a bundle and may be hostile: each is refused by name before a frame is looked at, or with the frame."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from processing import pipeline
from processing.boxes import View
from processing.spec import FrameUnfitError, SpecError

TOP1 = {"op": "top1"}
GRID = {"op": "grid_boxes", "classes": ["bolt", "nut"], "rows": 2, "columns": 3}
CROP = {"op": "crop", "top": 2, "left": 3, "height": 4, "width": 5}
SIZED = {"op": "resize", "height": 8, "width": 8}


def spec(*pre: Any, post: Any = (TOP1,)) -> Any:
    return {"pre": list(pre), "post": list(post)}


def after(*post: Any) -> Any:
    return spec(post=post)


@pytest.mark.parametrize(
    ("hostile", "says"),
    [
        ([], "two lists"),
        ({"pre": []}, "two lists"),
        ({"pre": {}, "post": [TOP1]}, "two lists"),
        (spec(*[{"op": "grayscale"}] * 33), "at most 32"),
        (spec("grayscale"), "an object with its name"),
        (spec({"op": 7}), "an object with its name"),
        # unknown
        (spec({"op": "blur"}), "unknown operation 'blur'"),
        (after({"op": "__class__"}), "unknown operation '__class__'"),
        (spec({"op": "x" * 5000}), "unknown operation 'xxx"),
        (spec({**SIZED, "antialias": True}), "resize: unknown field 'antialias'"),
        (after({"op": "top1", "k": 2}), "top1: unknown field 'k'"),
        # wrong order
        (spec({"op": "layout", "order": "NCHW"}, {"op": "grayscale"}), "layout must be the last"),
        (spec({"op": "layout", "order": "NCHW"}, {"op": "layout", "order": "NCHW"}), "layout must be the last"),
        (after(), "ends with an answer"),
        (after({"op": "softmax"}), "ends with an answer"),
        (after(GRID), "ends with an answer"),
        (after(TOP1, TOP1), "top1 takes vector, not answer"),
        (after({"op": "nms", "iou": 0.5}, GRID), "nms takes boxes, not vector"),
        (after({"op": "threshold", "score": 0.5}, TOP1), "threshold takes answer or boxes, not vector"),
        (after(GRID, {"op": "boxes"}, {"op": "nms", "iou": 0.5}), "nms takes boxes, not answer"),
        (after(GRID, {"op": "boxes"}, {"op": "threshold", "score": 0.5}), "sifted before they are counted"),
        (after(GRID, TOP1), "top1 takes vector, not boxes"),
        # sizes
        (spec({"op": "resize", "height": 3}), "resize lacks 'width'"),
        (spec({**SIZED, "height": 0}), "height is a whole number from 1"),
        (spec({**SIZED, "height": 4097}), "from 1 to 4096, not 4097"),
        (spec({**SIZED, "height": 4096, "width": 2048}), "at most 4194304 pixels"),
        (spec({**SIZED, "height": 10**30}), "from 1 to 4096"),
        (spec({**SIZED, "width": 8.0}), "width is a whole number"),
        (spec({**SIZED, "width": True}), "width is a whole number"),
        (spec({**SIZED, "width": "8"}), "width is a whole number"),
        (spec({**SIZED, "method": "cubic"}), "method is one of box, bilinear"),
        (spec({**SIZED, "method": ["box"]}), "method is one of box, bilinear"),
        (spec({**CROP, "left": -1}), "left is a whole number from 0"),
        (spec({**CROP, "height": 0}), "height is a whole number from 1"),
        (spec(SIZED, {**CROP, "top": 5}), "crop: down to row 9 and column 8 of a picture of 8 x 8"),
        (spec(CROP, {**CROP, "top": 0}), "column 8 of a picture of 4 x 5"),
        # numbers
        (spec({"op": "scale", "factor": float("nan")}), "factor is a number"),
        (spec({"op": "scale", "factor": float("inf")}), "factor is a number"),
        (spec({"op": "scale", "factor": "1"}), "factor is a number"),
        (spec({"op": "normalize", "mean": [1], "std": [0]}), "std is a number from 1e-06"),
        (spec({"op": "normalize", "mean": [1, 2], "std": [1]}), "as many std as mean"),
        (spec({"op": "normalize", "mean": [], "std": []}), "mean is a list of 1 to 4"),
        (spec({"op": "normalize", "mean": [0] * 5, "std": [1] * 5}), "mean is a list of 1 to 4"),
        (
            spec({"op": "grayscale"}, {"op": "normalize", "mean": [1, 2, 3], "std": [1, 1, 1]}),
            "mean and std of 3 channels, the picture has 1",
        ),
        (spec({"op": "layout", "order": "CHWN"}), "order is one of NCHW, NHWC"),
        (after({"op": "top_k", "k": 17}), "k is a whole number from 1 to 16"),
        (after(TOP1, {"op": "threshold", "score": 1.5}), "score is a number from 0 to 1"),
        (after(GRID, {"op": "nms", "iou": -0.1}, {"op": "boxes"}), "iou is a number from 0 to 1"),
        (after(GRID, {"op": "boxes", "most": 101}), "most is a whole number from 1 to 100"),
        (after({**GRID, "rows": 1024, "columns": 1024}, {"op": "boxes"}), "at most 65536 cells"),
        (after({**GRID, "classes": ["a", "a"]}, {"op": "boxes"}), "classes are different names"),
        (after({**GRID, "classes": ["drop table"]}, {"op": "boxes"}), "classes are different names"),
        (after({**GRID, "classes": []}, {"op": "boxes"}), "classes is a list of 1 to 256"),
    ],
)
def test_a_hostile_specification_is_refused_by_name(hostile: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        pipeline.compile(hostile)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"7"])
def test_bytes_that_are_no_specification_are_refused(data: bytes) -> None:
    with pytest.raises(SpecError, match=r"processing\.json is not"):
        pipeline.read(data)
    assert pipeline.read(json.dumps(spec()).encode()) == spec()


@pytest.mark.parametrize(
    ("given", "tensors", "says"),
    [
        (spec(SIZED), ((1, 1, 8, 9), (1, 3)), "pre gives 1 x . x 8 x 8, the model takes 1 x 1 x 8 x 9"),
        (spec(SIZED), ((1, 64), (1, 3)), "the model takes 1 x 64"),
        (spec({"op": "grayscale"}, SIZED), ((1, 3, 8, 8), (1, 3)), "pre gives 1 x 1 x 8 x 8"),
        (after({"op": "top_k", "k": 4}), ((1, 1, 8, 8), (1, 3)), "the 4 best of a vector of 3"),
        (after(GRID, {"op": "boxes"}), ((1, 1, 8, 8), (1, 7, 2, 2)), "the model gives 28 values, the grid has 42"),
    ],
)
def test_a_specification_that_does_not_fit_the_model_is_refused(given: Any, tensors: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        pipeline.compile(given).check(*tensors)


def test_a_crop_outside_of_the_frame_refuses_that_frame_only() -> None:
    compiled = pipeline.compile(spec(CROP))
    with pytest.raises(FrameUnfitError, match="down to row 6 and column 8 of a picture of 6 x 7"):
        compiled(np.zeros((6, 7), np.uint8))
    frame = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    assert np.array_equal(compiled(frame)[0, 0], frame[2:6, 3:8])
    assert compiled.view(frame.shape) == View(3, 2, 5, 4)


def test_channels_that_a_frame_does_not_have_refuse_it() -> None:
    with pytest.raises(FrameUnfitError, match="3 channels, the picture has 1"):
        pipeline.compile(spec({"op": "normalize", "mean": [1, 2, 3], "std": [1, 1, 1]}))(np.zeros((4, 4), np.uint8))
    with pytest.raises(FrameUnfitError, match="red, green and blue"):
        pipeline.compile(spec({"op": "grayscale"}))(np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(FrameUnfitError, match="uint8"):
        pipeline.compile(spec())(np.zeros((0, 4), np.uint8))


def test_boxes_come_back_in_pixels_of_the_frame_through_crop_and_resize() -> None:
    pre = [{**CROP, "height": 40, "width": 60}, {**SIZED, "width": 12}, {"op": "crop", "top": 4, "left": 0, "height": 4, "width": 6}]
    compiled = pipeline.compile(spec(*pre, post=[{**GRID, "rows": 1, "columns": 1}, {"op": "boxes"}]))
    view = compiled.view((100, 100))
    assert view == View(3.0, 22.0, 30.0, 20.0), "the left half of the lower half of the crop"
    answer = compiled.post(np.array([0, 0, 9, 0, 0, 0.5, 0.5]), view)  # a nut in the middle of the one cell, half as wide and high
    assert [round(edge, 3) for edge in answer["boxes"][0][2:]] == [10.5, 27.0, 25.5, 37.0]
    assert (answer["best_class"], answer["count"], answer["count_nut"], answer["count_bolt"]) == ("nut", 1, 1, 0)
