"""Wilson's interval of a share. Pure Python: the control plane's domain uses it without numpy."""

from __future__ import annotations

import math

_Z95 = 1.959964  # two-sided 95 % of the normal distribution


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval: right also near 0 and 1, where the usual one leaves [0, 1]. For one look at a fixed `n`, at least 1."""
    share, z2 = successes / n, _Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)
