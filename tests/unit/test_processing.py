"""The one implementation of pre- and post-processing, against slow and obvious ones."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import golden, pipeline
from processing.rows import Key, RowMaker
from processing.spec import SpecError

DIGITS = {
    "pre": [
        {"op": "grayscale"},
        {"op": "resize", "height": 32, "width": 32, "method": "box"},
        {"op": "standardize"},
        {"op": "layout", "order": "NCHW"},
    ],
    "post": [{"op": "softmax"}, {"op": "top1"}],
}
POST = [{"op": "top1"}]


def frame(height: int = 64, width: int = 64, channels: int = 0, seed: int = 1) -> Any:
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_digits_spec_gives_one_standardized_request() -> None:
    values = pipeline.compile(DIGITS)(frame())
    assert values.shape == (1, 1, 32, 32)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert abs(float(values.mean())) < 1e-5
    assert abs(float(values.std()) - 1) < 1e-4


def test_box_resize_by_a_whole_factor_is_the_mean_of_blocks() -> None:
    spec = {"pre": [{"op": "resize", "height": 16, "width": 32}], "post": POST}
    picture = frame(64, 64)
    expected = picture.astype(np.float64).reshape(16, 4, 32, 2).mean(axis=(1, 3))
    assert np.allclose(pipeline.compile(spec)(picture)[0, 0], expected, atol=1e-3)


@given(height=st.integers(1, 40), width=st.integers(1, 40), value=st.integers(0, 255))
@settings(max_examples=30)
def test_resize_keeps_a_picture_of_one_colour(height: int, width: int, value: int) -> None:
    for method in ("box", "bilinear"):
        spec = {"pre": [{"op": "resize", "height": 7, "width": 9, "method": method}], "post": POST}
        assert np.allclose(pipeline.compile(spec)(np.full((height, width), value, np.uint8)), value, atol=1e-3)


def test_frames_of_changing_size_are_each_resized_by_their_own_weights() -> None:
    compiled = pipeline.compile({"pre": [{"op": "resize", "height": 8, "width": 8}], "post": POST})
    small, large = frame(16, 24), frame(40, 32)
    first = compiled(small)
    assert compiled(large).shape == (1, 1, 8, 8)
    assert np.array_equal(compiled(small), first)


def test_colour_scale_normalize_and_layout() -> None:
    spec = {
        "pre": [
            {"op": "scale", "factor": 1 / 255},
            {"op": "normalize", "mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]},
            {"op": "layout", "order": "NHWC"},
        ],
        "post": POST,
    }
    picture = frame(4, 5, 3)
    expected = (picture / 255 - [0.5, 0.4, 0.3]) / [0.1, 0.2, 0.3]
    assert np.allclose(pipeline.compile(spec)(picture)[0], expected, atol=1e-5)


def test_grey_and_colour_of_the_same_grey_agree() -> None:
    grey = frame(8, 8)
    compiled = pipeline.compile({"pre": [{"op": "grayscale"}], "post": POST})
    assert np.allclose(compiled(grey), compiled(np.stack([grey] * 3, axis=2)), atol=1e-3)


def test_a_picture_without_contrast_is_standardized_to_zero() -> None:
    values = pipeline.compile(DIGITS)(np.full((64, 64), 7, np.uint8))
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 1e-2


def test_many_is_the_same_as_one_by_one() -> None:
    compiled = pipeline.compile(DIGITS)
    frames = [frame(seed=seed) for seed in range(3)]
    assert np.array_equal(compiled.many(frames), np.concatenate([compiled(one) for one in frames]))


def test_post_gives_label_and_score() -> None:
    answer = pipeline.compile(DIGITS).post(np.array([[1.0, 3.0, 2.0]], np.float32))
    assert answer["label"] == 1
    assert answer["score"] == pytest.approx(np.exp(3) / np.exp([1, 2, 3]).sum())


def test_a_frame_that_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        pipeline.compile(DIGITS)(np.zeros((4, 4), np.float32))


KEYS = {"label": Key("int"), "score": Key("float")}


def test_rows_follow_the_schema_order() -> None:
    columns: list[dict[str, Any]] = [
        {"name": n, "type": t}
        for n, t in (("frame_no", "i64"), ("event_utc", "utc_us"), ("mono_us", "i64"), ("score", "f32"), ("label", "i16"))
    ]
    columns.append({"name": "later", "type": "f32", "nullable": True})
    assert RowMaker(columns, KEYS)(5, 6, 7, {"label": 3, "score": 0.5}) == [5, 6, 7, 0.5, 3, None]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ({"name": "width", "type": "f32"}, "nothing makes the columns width"),
        ({"name": "label", "type": "binary"}, "label is binary, the answer holds int"),
        ({"name": "score", "type": "i32"}, "score is i32, the answer holds float"),
        ({"name": "boxes", "type": "i64"}, "boxes is i64, the answer holds list"),
        ({"name": "maybe", "type": "f32"}, "maybe must be nullable"),
    ],
)
def test_a_column_that_answers_do_not_make_is_refused(column: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        RowMaker([column], {**KEYS, "boxes": Key("list"), "maybe": Key("float", nullable=True)})


def test_a_list_is_one_column_of_compact_json() -> None:
    make = RowMaker([{"name": "boxes", "type": "utf8"}], {"boxes": Key("list")})
    assert make(0, 0, 0, {"boxes": [["nut", 0.5, 1.0]]}) == ['[["nut",0.5,1.0]]']


def test_golden_comparison() -> None:
    expected = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert golden.compare(expected, expected) == golden.Comparison(0.0, 1.0, True)
    near = golden.compare(expected, np.array([[0.1, 0.9], [0.4, 0.6]]))
    assert near.max_abs == pytest.approx(0.6)
    assert near.top1_agreement == 0.5
    broken = golden.compare(expected, np.array([[np.nan, 1.0], [1.0, 0.0]]))
    assert (broken.finite, broken.max_abs, broken.top1_agreement) == (False, float("inf"), 0.5)
    with pytest.raises(ValueError, match="cannot compare"):
        golden.compare(expected, expected[:1])
    assert golden.agreement(expected, expected[::-1]) == 0.0


BYTES = {  # computed once; every numpy and every Python that runs this must come to them
    "box": "be86a2aa8ed4cfce5fa0d0cbc24e8bae76d0ca5a35881d20525ebb283c51fcb1",
    "bilinear": "ef4d40aea460fbcb59e2c7049e444214fc3706645c42392336ad03bdc9d259f5",
}


@pytest.mark.parametrize("method", sorted(BYTES))
def test_the_bytes_are_the_same_on_every_machine(method: str) -> None:
    """Under Python 3.8, 3.10 and 3.11 the suites run with numpy 1.24, 2.2 and 2.4."""
    pre = [
        {"op": "crop", "top": 5, "left": 3, "height": 90, "width": 121},
        {"op": "grayscale"},
        {"op": "resize", "height": 32, "width": 48, "method": method},
        {"op": "scale", "factor": 1 / 255},
        {"op": "normalize", "mean": [0.45], "std": [0.225]},
        {"op": "standardize"},
    ]
    seen = (np.arange(100 * 130 * 3, dtype=np.uint64) ** 2 // 7 % 256).astype(np.uint8).reshape(100, 130, 3)
    values = pipeline.compile({"pre": pre, "post": POST})(seen)
    assert hashlib.sha256(values.tobytes()).hexdigest() == BYTES[method]


def test_ranks_and_a_label_that_is_not_sure() -> None:
    post = [{"op": "softmax"}, {"op": "top_k", "k": 2}, {"op": "threshold", "score": 0.6}]
    compiled = pipeline.compile({"pre": [], "post": post})
    sure, unsure = compiled.post(np.array([0.0, 3.0, 1.0])), compiled.post(np.array([0.0, 3.0, 2.9]))
    assert (sure["label"], sure["label_2"]) == (1, 2)
    assert (unsure["label"], unsure["label_2"]) == (None, 2)
    assert unsure["score"] > unsure["score_2"]
    assert compiled.keys == {"label": Key("int", nullable=True), "score": Key("float"), "label_2": Key("int"), "score_2": Key("float")}
    assert [compiled.agree(sure, sure), compiled.agree(sure, unsure)] == [True, False]
    assert pipeline.compile({"pre": [], "post": [{"op": "sigmoid"}, {"op": "top1"}]}).post(np.array([0.0, -1e9]))["score"] == 0.5
