"""Figures of an evaluation, from outputs and labels. Pure. Outputs: float32 (n, classes); labels: int64 (n,)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.errors import error
from contracts.manifest import Limits, Tolerance
from control_plane.build.source import F32
from processing.wilson import wilson

MIN_MEMORY_BYTES = 192 << 20  # interpreter, numpy and runtime alone take about 100 MB
MIN_LATENCY_US = 2000
_MEMORY_ROOM, _LATENCY_ROOM = 1.5, 5.0  # devices differ from the machine that measured


@dataclass(frozen=True)
class Accuracy:
    """Of the quantized model and of its fp32 source on the same samples; `low` and `high` bound the quantized one's at 95 %."""

    samples: int
    quantized: float
    fp32: float
    low: float
    high: float
    per_class: dict[str, float]

    @property
    def loss(self) -> float:
        """Share of the samples that quantization costs; counted in whole samples, so that a limit is met exactly."""
        return round((self.fp32 - self.quantized) * self.samples) / self.samples


def accuracy(quantized: F32, fp32: F32, labels: NDArray[np.int64]) -> Accuracy:
    right = quantized.argmax(axis=1) == labels
    low, high = wilson(int(right.sum()), len(labels))
    classes = {str(label): float(right[labels == label].mean()) for label in np.unique(labels)}
    return Accuracy(len(labels), float(right.mean()), float((fp32.argmax(axis=1) == labels).mean()), low, high, classes)


def check_accuracy(measured: Accuracy, max_loss: float, thing: str) -> None:
    """RejectedError BUILD_ACCURACY when quantization costs more than `max_loss` (a share of the samples)."""
    if measured.loss > max_loss:
        seen = f"{measured.quantized:.4f} (95 %: {measured.low:.4f} to {measured.high:.4f}) against {measured.fp32:.4f} in fp32"
        raise error("BUILD_ACCURACY", thing, f"{seen} on {measured.samples} samples; at most {max_loss} may be lost")


def agreement(one: F32, other: F32) -> float:
    """Share of samples on which both name the same class."""
    return float((one.argmax(axis=1) == other.argmax(axis=1)).mean())


def golden_indices(samples: int, wanted: int) -> list[int]:
    """Evenly spread over the held-out set, the same for every build of it."""
    return sorted({int(n) for n in np.linspace(0, samples - 1, min(wanted, samples))})


def tolerance(quantized: F32, fp32: F32) -> Tolerance:
    """What the golden vectors showed here, with room for another instruction set; one vector may name another class."""
    seen = float(np.abs(quantized - fp32).max())
    return Tolerance(max_abs=round(seen * 1.5 + 0.02, 4), top1_agreement=max(0.0, agreement(quantized, fp32) - 1 / len(fp32)))


def limits(rss_bytes: int, cpu_p95_us: float) -> Limits:
    return Limits(
        memory_bytes=max(MIN_MEMORY_BYTES, int(rss_bytes * _MEMORY_ROOM)),
        latency_p95_us=max(MIN_LATENCY_US, int(cpu_p95_us * _LATENCY_ROOM)),
    )
