"""Resizing along one axis as sums of a few weighted source lines. Pure.

Each target line is the sum over its taps, in their order, one multiplication and one addition at a time: the same bytes whatever
linear algebra library, thread count or instruction set a machine has. A matrix product would be shorter, and promises none of this.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any


class Taps(NamedTuple):
    """Both (target, taps): which source lines, and how much of each (float32; a row sums to 1)."""

    index: Array
    weight: Array


def box(source: int, target: int) -> Taps:
    """The mean of what lies under each target line when both cover the same length. For making smaller."""
    edges = np.arange(target + 1, dtype=np.float64) * source / target
    first = np.floor(edges[:-1]).astype(np.intp)
    most = int((np.ceil(edges[1:]).astype(np.intp) - first).max())
    index = first[:, None] + np.arange(most)
    overlap = np.minimum(edges[1:, None], index + 1.0) - np.maximum(edges[:-1, None], index)
    weight = np.clip(overlap, 0, None) * target / source
    return Taps(np.minimum(index, source - 1), weight.astype(np.float32))


def bilinear(source: int, target: int) -> Taps:
    """Between the two source lines whose centres lie around each target centre; beyond the outermost centres the edge goes on."""
    centre = (np.arange(target, dtype=np.float64) + 0.5) * source / target - 0.5
    centre = np.clip(centre, 0, source - 1)
    below = np.minimum(np.floor(centre).astype(np.intp), max(source - 2, 0))
    share = centre - below
    index = np.stack([below, np.minimum(below + 1, source - 1)], axis=1)
    return Taps(index, np.stack([1 - share, share], axis=1).astype(np.float32))


def apply(taps: Taps, picture: Array, axis: int) -> Array:
    """`picture`: float32 (height, width, channels); along `axis` 0 or 1."""
    shape = [1, 1, 1]
    shape[axis] = len(taps.index)
    result = np.zeros([*picture.shape[:axis], len(taps.index), *picture.shape[axis + 1 :]], np.float32)
    for tap in range(taps.index.shape[1]):
        result += np.take(picture, taps.index[:, tap], axis=axis) * taps.weight[:, tap].reshape(shape)
    return result
