"""Mergeable latency histograms with log-spaced buckets. Pure Python: the control plane's domain uses it without numpy.

Edges are 16 us x 2^(i/4) for i = 0..62; bucket 0 lies below the first edge, the last one above the last edge.
A percentile is the upper edge of its bucket, so it errs by at most 19 % and always upwards.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Sequence

EDGES_US = tuple(16.0 * 2 ** (i / 4) for i in range(63))
BUCKETS = len(EDGES_US) + 1


def empty() -> list[int]:
    return [0] * BUCKETS


def bucket(us: float) -> int:
    """Index of the bucket that holds a latency of `us` microseconds; an edge belongs to the bucket below it."""
    return bisect_left(EDGES_US, us)


def merge(left: Sequence[int], right: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(left, right)]


def percentile_us(counts: Sequence[int], share: float) -> float:
    """Upper edge of the bucket that holds the `share` quantile (0 < share <= 1); infinity in the overflow bucket.

    Raises ValueError when there are no counts: no evidence is not a latency of zero.
    """
    total = sum(counts)
    if total == 0:
        raise ValueError("no samples")
    seen = 0
    for index, count in enumerate(counts):
        seen += count
        if seen >= share * total:
            return EDGES_US[index] if index < len(EDGES_US) else float("inf")
    return float("inf")
