"""Comparison of a model's outputs with golden ones. Pure; device, packaging and tests use this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from processing.pipeline import Processing

Array = Any


@dataclass(frozen=True)
class Comparison:
    """`max_abs` is infinite and `top1_agreement` counts only finite vectors where `finite` is False."""

    max_abs: float
    top1_agreement: float  # share of vectors whose arg max is equal
    finite: bool


def compare(expected: Array, actual: Array) -> Comparison:
    """`expected` and `actual`: (n, ...) of equal shape, n >= 1. Raises ValueError when the shapes differ or n is 0."""
    if expected.shape != actual.shape or len(expected) == 0:
        raise ValueError(f"cannot compare {expected.shape} with {actual.shape}")
    wanted = np.asarray(expected, dtype=np.float64).reshape(len(expected), -1)
    seen = np.asarray(actual, dtype=np.float64).reshape(len(actual), -1)
    good: Array = np.isfinite(seen).all(axis=1)
    chosen = np.where(good.reshape(-1, 1), seen, 0).argmax(axis=1)
    agrees = good & (chosen == wanted.argmax(axis=1))
    finite = bool(good.all())
    max_abs = float(np.abs(wanted - seen).max()) if finite else float("inf")
    return Comparison(max_abs, float(agrees.mean()), finite)


def answer_agreement(expected: Array, actual: Array, processing: Processing) -> float:
    """Share of vectors (n, ...) whose answers agree after post-processing."""
    pairs = zip(expected, actual)
    return sum(processing.agree(processing.post(wanted), processing.post(seen)) for wanted, seen in pairs) / len(expected)


def agreement(left: Array, right: Array) -> float:
    """Share of vectors (n, classes) on which two models choose the same class."""
    return float((np.asarray(left).argmax(axis=1) == np.asarray(right).argmax(axis=1)).mean())
