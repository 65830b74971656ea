"""What agreement with an incumbent is to be expected of a candidate.

Packaging has measured it on the held-out set, a finite one: at the lower end of that estimate a candidate is still as good as was said.
A bad model is not excused by its own packaging having seen that it is bad: of two models of which the newer is no worse, each is wrong on
at most 1 - a of the samples, so both are right on 2a - 1, where a is the incumbent's accuracy. No less than that is expected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from processing.wilson import wilson


@dataclass(frozen=True)
class Estimate:
    """A share measured on some samples of a held-out set."""

    share: float
    samples: int

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval; 0 where nothing is known of the samples."""
        return wilson(round(self.share * self.samples), self.samples)[0] if self.samples else 0.0


@dataclass(frozen=True)
class Expected:
    share: float
    low: float  # down to here, a lower agreement may be the held-out set's own error


def expected(measured: Estimate, incumbent_accuracy: Estimate | None) -> Expected:
    of_packaging = Expected(measured.share, measured.low)
    if incumbent_accuracy is None:
        return of_packaging
    no_worse = Expected(2 * incumbent_accuracy.share - 1, 2 * incumbent_accuracy.low - 1)
    return max(of_packaging, no_worse, key=lambda one: one.share)


def pooled(parts: Iterable[tuple[Expected, int]]) -> Expected:
    """Of pairs from several devices, each with its own incumbent: the mean, weighted by their pairs (at least one)."""
    known = list(parts)
    pairs = sum(weight for _, weight in known)
    return Expected(
        sum(one.share * weight for one, weight in known) / pairs, sum(one.low * weight for one, weight in known) / pairs
    )  # fmt: skip
