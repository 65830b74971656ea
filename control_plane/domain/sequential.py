"""Bounds that hold at every look at once, so that a gate may be judged after each report.

A bound for a fixed number of samples errs at its rate at *each* look, and many times as often over thirty of them. These err at their rate
over all looks together, however many there are and whenever they are taken.

Under a share p the mixture likelihood ratio `exp(log_evidence(hits, samples, p))` is a martingale of mean 1; by Ville's inequality it ever
reaches 1/error with a probability of at most `error`. The shares against which it has not got there are the bounds. This is Robbins'
mixture with a beta prior (H. Robbins, "Statistical methods related to the law of the iterated logarithm", 1970), one of the confidence
sequences of S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021.
Percentiles follow from shares, as in S. R. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing and
best-arm identification", 2022.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf, lgamma, log, log1p

from processing.latency import EDGES_US

PRIOR_SAMPLES = 20.0  # the prior counts as this many samples: more would decide later on few samples, sooner on many
_HALVINGS = 50


@dataclass(frozen=True)
class Bounds:
    """What is bounded lies in [low, high], but for an error of its own on each side."""

    low: float
    high: float


def log_evidence(hits: int, samples: int, share: float) -> float:
    """Logarithm of the evidence that the true share is not `share` (strictly between 0 and 1)."""
    misses, prior_hits, prior_misses = samples - hits, PRIOR_SAMPLES * share, PRIOR_SAMPLES * (1 - share)
    mixed = _log_beta(prior_hits + hits, prior_misses + misses) - _log_beta(prior_hits, prior_misses)
    return mixed - hits * log(share) - misses * log1p(-share)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def proven_above(hits: int, samples: int, share: float, error: float) -> bool:
    """Is the true share above `share`? Wrong with a probability of at most `error` over all looks."""
    return hits > share * samples and log_evidence(hits, samples, share) >= -log(error)


def proven_below(hits: int, samples: int, share: float, error: float) -> bool:
    return proven_above(samples - hits, samples, 1 - share, error)


def share_bounds(hits: int, samples: int, error_low: float, error_high: float) -> Bounds:
    """Of the true share behind `hits` of `samples`; [0, 1] without samples."""
    if samples == 0:
        return Bounds(0.0, 1.0)
    low = _largest_low(hits, samples, error_low)
    return Bounds(low, 1 - _largest_low(samples - hits, samples, error_high))


def _largest_low(hits: int, samples: int, error: float) -> float:
    low, high = 0.0, hits / samples
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not 0 < middle < 1:
            break
        low, high = (middle, high) if proven_above(hits, samples, middle, error) else (low, middle)
    return low


def percentile_bounds_us(counts: Sequence[int], share: float, error_low: float, error_high: float) -> Bounds:
    """Of the true `share` quantile of latencies in a histogram of processing.latency; [0, inf] while nothing is proven.

    Both are edges of buckets: where within its bucket a latency lies is not known, and never decides.
    """
    samples, beyond = sum(counts), 1 - share
    if samples == 0:
        return Bounds(0.0, inf)
    over = [samples - below for below in accumulate(counts)][: len(EDGES_US)]  # latencies beyond each edge, fewer and fewer
    first_high = _first(over, lambda count: proven_below(count, samples, beyond, error_high))
    first_not_low = _first(over, lambda count: not proven_above(count, samples, beyond, error_low))
    low = EDGES_US[first_not_low - 1] if first_not_low else 0.0
    return Bounds(low, EDGES_US[first_high] if first_high < len(EDGES_US) else inf)


def _first(over: Sequence[int], holds: Callable[[int], bool]) -> int:
    """Index of the first edge for which it holds; from there on it holds for all."""
    return bisect_left(over, True, key=holds)
