"""Boxes: suppression against a slow and obvious one, pairing against trying every way, and what must hold for any boxes at all."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import boxes, pipeline, resample
from processing.boxes import Boxes, View
from processing.spec import FrameUnfitError

CLASSES = ("bolt", "nut")
SHARES = st.integers(0, 20).map(lambda n: n / 20)  # a coarse lattice: equal scores, touching edges and equal overlaps happen


@st.composite
def many_boxes(draw: Any, most: int = 12) -> Boxes:
    drawn = draw(st.lists(st.tuples(st.integers(0, 1), SHARES, SHARES, SHARES, SHARES, SHARES), max_size=most))
    label = np.array([one[0] for one in drawn], int)
    score = np.array([one[1] for one in drawn], float)
    sides = np.array([one[2:] for one in drawn], float).reshape(-1, 4)
    edges = np.concatenate([np.minimum(sides[:, :2], sides[:, 2:]), np.maximum(sides[:, :2], sides[:, 2:]) + 0.05], axis=1)
    return Boxes(CLASSES, label, score, edges)


def overlap(one: Any, other: Any) -> float:
    """Of two boxes, by the definition."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(both / (sum(areas) - both))


def listed(found: Boxes) -> list[Any]:
    return [(int(label), float(score), *map(float, box)) for label, score, box in zip(found.label, found.score, found.edges)]


def naive(found: Boxes, limit: float) -> list[Any]:
    kept: list[Any] = []
    for one in sorted(listed(found), key=lambda box: (-box[1], box[0], *box[2:])):
        if all(one[0] != other[0] or overlap(one[2:], other[2:]) <= limit for other in kept):
            kept.append(one)
    return kept


@given(many_boxes(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_suppression_is_the_obvious_one(found: Boxes, limit: float) -> None:
    assert listed(boxes.suppress(found, limit)) == naive(found, limit)


@given(many_boxes(), st.sampled_from([0.0, 0.3, 0.5]))
def test_no_two_boxes_of_a_class_that_stay_overlap_by_more_than_the_limit(found: Boxes, limit: float) -> None:
    kept = boxes.suppress(found, limit)
    for one, other in itertools.combinations(listed(kept), 2):
        assert one[0] != other[0] or overlap(one[2:], other[2:]) <= limit
    assert len(kept.label) or not len(found.label), "the best one always stays"


@given(many_boxes(), st.randoms(use_true_random=False))
def test_the_order_in_which_boxes_come_means_nothing(found: Boxes, random: Any) -> None:
    order = list(range(len(found.label)))
    random.shuffle(order)
    assert listed(boxes.suppress(found.only(np.array(order, int)), 0.4)) == listed(boxes.suppress(found, 0.4))


def along(*lefts: float) -> Any:
    """Boxes of side 1 in a row: the overlap of two is a matter of their distance."""
    return np.array([[left, 0, left + 1, 1] for left in lefts])


def test_of_boxes_that_overlap_the_best_stays_and_what_only_overlaps_a_lost_one() -> None:
    found = Boxes(CLASSES, np.array([0, 0, 0, 1]), np.array([0.7, 0.9, 0.8, 0.6]), along(0.8, 0, 0.4, 0.1))
    assert listed(boxes.suppress(found, 0.3)) == [(0, 0.9, 0, 0, 1, 1), (0, 0.7, 0.8, 0, 1.8, 1), (1, 0.6, 0.1, 0, 1.1, 1)]


def test_who_has_another_partner_gives_way() -> None:
    assert boxes.matched(along(0.15, -0.3), along(0, 0.3), 0.5) == 2


def test_suppression_looks_at_the_best_thousand() -> None:
    edges = np.tile([0.0, 0.0, 0.5, 0.5], (5000, 1)) + np.arange(5000)[:, None]
    found = Boxes(CLASSES, np.zeros(5000, int), np.linspace(0, 1, 5000), edges)
    assert len(boxes.suppress(found, 0.5).label) == boxes.NMS_CANDIDATES
    assert boxes.suppress(found, 0.5).score[0] == 1.0


@given(many_boxes(5), many_boxes(5))
@settings(max_examples=60)
def test_pairing_finds_the_most_pairs_that_there_are_whoever_is_asked_first(left: Boxes, right: Boxes) -> None:
    near = boxes.iou(left.edges, right.edges) >= 0.5
    few, many = sorted((len(left.label), len(right.label)))
    wide = near if near.shape[0] == few else near.T
    tried = (sum(bool(wide[number, other]) for number, other in enumerate(order)) for order in itertools.permutations(range(many), few))
    assert boxes.matched(left.edges, right.edges, 0.5) == boxes.matched(right.edges, left.edges, 0.5) == max(tried, default=0)


@given(many_boxes(6), many_boxes(6))
def test_iou_is_the_definition_and_of_a_box_with_itself_one(left: Boxes, right: Boxes) -> None:
    found = boxes.iou(left.edges, right.edges)
    wanted = [[overlap(one, other) for other in right.edges] for one in left.edges]
    assert np.allclose(found, np.array(wanted).reshape(found.shape))
    assert np.allclose(np.diag(boxes.iou(left.edges, left.edges)), 1)


POST = [
    {"op": "grid_boxes", "classes": list(CLASSES), "rows": 3, "columns": 4},
    {"op": "threshold", "score": 0.4},
    {"op": "nms", "iou": 0.4},
    {"op": "boxes", "most": 8},
]
DETECTOR = pipeline.compile({"pre": [], "post": POST})


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.floats(0.1, 1e6))
@settings(max_examples=60)
def test_answers_of_any_detector_agree_with_themselves_and_both_ways(one: int, other: int, scale: float) -> None:
    view = View(10, 20, 300, 200)
    first, second = (DETECTOR.post(np.random.default_rng(seed).normal(size=(7, 3, 4)) * scale, view) for seed in (one, other))
    assert DETECTOR.agree(first, first)
    assert DETECTOR.agree(first, second) == DETECTOR.agree(second, first)
    assert first["count"] == len(first["boxes"]) == first["count_bolt"] + first["count_nut"] <= 8
    assert set(first) == set(DETECTOR.keys)
    for _, score, left, top, right, bottom in first["boxes"]:
        assert score + 1e-4 >= 0.4
        assert 10 <= left < right <= 310
        assert 20 <= top < bottom <= 220


SIDES = st.integers(1, 70)


@given(source=SIDES, target=SIDES)
def test_box_taps_cover_every_source_line_once(source: int, target: int) -> None:
    taps = resample.box(source, target)
    dense = np.zeros((target, source))
    np.add.at(dense, (np.arange(target)[:, None], taps.index), taps.weight)
    assert np.allclose(dense.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(dense.sum(axis=0), target / source, atol=1e-5)
    assert (dense >= 0).all()


@given(source=SIDES, target=SIDES)
def test_bilinear_taps_are_a_straight_line_between_centres(source: int, target: int) -> None:
    taps = resample.bilinear(source, target)
    centres = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    assert np.allclose((taps.index * taps.weight).sum(axis=1), centres, atol=1e-3)
    assert np.allclose(taps.weight.sum(axis=1), 1, atol=1e-6)
    assert (taps.weight >= 0).all()


@given(
    frame=st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])), crop=st.tuples(*[st.integers(0, 40)] * 4),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)), method=st.sampled_from(["box", "bilinear"]),
)  # fmt: skip
@settings(max_examples=80)
def test_crop_and_resize_give_the_shape_that_they_promise_or_refuse(frame: Any, crop: Any, size: Any, method: str) -> None:
    top, left, height, width = crop[0], crop[1], crop[2] + 1, crop[3] + 1
    pre = [
        {"op": "crop", "top": top, "left": left, "height": height, "width": width},
        {"op": "resize", "height": size[0], "width": size[1], "method": method},
    ]
    compiled = pipeline.compile({"pre": pre, "post": [{"op": "top1"}]})
    picture = np.random.default_rng(1).integers(0, 256, frame, dtype=np.uint8)
    if top + height > frame[0] or left + width > frame[1]:
        try:
            compiled(picture)
        except FrameUnfitError:
            return
        raise AssertionError("a crop outside of the frame was taken")
    values = compiled(picture)
    assert values.shape == (1, frame[2], *size)
    inside = picture[top : top + height, left : left + width]
    assert inside.min() - 1e-3 <= values.min() <= values.max() <= inside.max() + 1e-3
    assert compiled.view(frame) == View(left, top, width, height)
