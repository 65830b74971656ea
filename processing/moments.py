"""Count, mean and spread of a figure, as sums that merge. Pure Python: the control plane's domain uses it without numpy."""

from __future__ import annotations

from typing import NamedTuple


class Moments(NamedTuple):
    n: int = 0
    mean: float = 0.0
    m2: float = 0.0  # sum of the squared distances from the mean


NOTHING = Moments()


def of(value: float) -> Moments:
    return Moments(1, value, 0.0)


def merge(left: Moments, right: Moments) -> Moments:
    """As if all values had been counted by one; in any order, up to rounding."""
    n = left.n + right.n
    if n == 0:
        return NOTHING
    apart = right.mean - left.mean
    return Moments(n, left.mean + apart * right.n / n, left.m2 + right.m2 + apart * apart * left.n * right.n / n)
