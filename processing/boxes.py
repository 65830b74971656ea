"""Boxes: what a detector answers with. How much two overlap, which of many stay, how many of two answers are the same. Pure.

A box is (left, top, right, bottom). Its edges are shares of the picture that the model saw; a View turns them into pixels of the frame.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np

Array = Any

NMS_CANDIDATES = 1000  # boxes that suppression looks at, the best ones: its cost grows with their square


class View(NamedTuple):
    """The part of the frame that a picture shows, in pixels of the frame."""

    left: float
    top: float
    width: float
    height: float

    def pixels(self, edges: Array) -> Array:
        """(n, 4) shares of the picture -> pixels of the frame."""
        scale = np.array([self.width, self.height, self.width, self.height])
        return edges * scale + np.array([self.left, self.top, self.left, self.top])


WHOLE = View(0.0, 0.0, 1.0, 1.0)  # edges stay shares of the picture


class Boxes(NamedTuple):
    """`label` (n,) int, index in `classes`; `score` (n,) float64; `edges` (n, 4) float64."""

    classes: tuple[str, ...]
    label: Array
    score: Array
    edges: Array

    def only(self, which: Array) -> Boxes:
        return self._replace(label=self.label[which], score=self.score[which], edges=self.edges[which])


def iou(left: Array, right: Array) -> Array:
    """(n, 4), (m, 4) -> (n, m): area of the intersection over that of the union; 0 where a box has no area."""
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    union = _areas(left)[:, None] + _areas(right)[None] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _areas(edges: Array) -> Array:
    return np.clip(edges[:, 2:] - edges[:, :2], 0, None).prod(axis=1)


def best_first(boxes: Boxes) -> Boxes:
    """By score; equal ones by class and edges, so that the order in which they came means nothing."""
    keys = (*boxes.edges.T[::-1], boxes.label, -boxes.score)
    return boxes.only(np.lexsort(keys))


def suppress(boxes: Boxes, limit: float) -> Boxes:
    """Non-maximum suppression, class by class: the best box stays, and what overlaps one that stayed by more than `limit` goes."""
    ordered = best_first(boxes)
    ordered = ordered.only(slice(0, NMS_CANDIDATES))
    rivals = (iou(ordered.edges, ordered.edges) > limit) & (ordered.label[:, None] == ordered.label[None])
    stays = np.ones(len(ordered.label), dtype=bool)
    for number in range(len(stays)):
        if stays[number]:
            stays[number + 1 :] &= ~rivals[number, number + 1 :]
    return ordered.only(stays)


def matched(left: Array, right: Array, limit: float) -> int:
    """The most pairs, each box in one at the most, that overlap by `limit` or more. (n, 4), (m, 4).

    By augmenting paths: who takes the nearest partner first may leave another one without, and the count would depend on the order.
    """
    near = [[int(other) for other in np.flatnonzero(row >= limit)] for row in iou(left, right)]
    partner: dict[int, int] = {}
    return sum(_seat(number, near, partner, set()) for number in range(len(near)))


def _seat(number: int, near: Sequence[Sequence[int]], partner: dict[int, int], asked: set[int]) -> bool:
    for other in near[number]:
        if other not in asked:
            asked.add(other)
            if other not in partner or _seat(partner[other], near, partner, asked):
                partner[other] = number
                return True
    return False
