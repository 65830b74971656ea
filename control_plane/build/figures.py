"""Figures of an evaluation, from post-processed answers and the truth of the same samples. Pure.

A sample is right when its answer agrees with the truth, as the bundle's processing compares two answers: the same label, or the same boxes.
So one notion serves accuracy, agreement with an incumbent, and a device's paired samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.errors import error
from contracts.manifest import Limits, Tolerance
from control_plane.build.source import F32
from processing import golden
from processing.answers import Answer
from processing.pipeline import Processing
from processing.scores import Score, score
from processing.wilson import wilson

Answers = Sequence[Answer]

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
    per_class: dict[str, float]  # of a classifier: the share that is right; of a detector: F1
    detection: Score | None = None  # the boxes of a detector's quantized model

    @property
    def loss(self) -> float:
        """Share of the samples that quantization costs; counted in whole samples, so that a limit is met exactly."""
        return round((self.fp32 - self.quantized) * self.samples) / self.samples


def answers(outputs: F32, processing: Processing) -> Answers:
    return [processing.post(output) for output in outputs]


def accuracy(quantized: Answers, fp32: Answers, truths: Answers, processing: Processing) -> Accuracy:
    right = _agreeing(quantized, truths, processing)
    share = agreement(fp32, truths, processing)
    low, high = wilson(sum(right), len(right))
    if not processing.classes:
        return Accuracy(len(right), sum(right) / len(right), share, low, high, _per_label(right, truths))
    parts = {name: score(quantized, truths, [name]).f1 for name in processing.classes}
    detection = score(quantized, truths, processing.classes)
    return Accuracy(len(right), sum(right) / len(right), share, low, high, parts, detection)


def _per_label(right: Sequence[bool], truths: Answers) -> dict[str, float]:
    labels = np.array([truth["label"] for truth in truths])
    return {str(label): float(np.array(right)[labels == label].mean()) for label in np.unique(labels)}


def check_accuracy(measured: Accuracy, max_loss: float, thing: str) -> None:
    """RejectedError BUILD_ACCURACY when quantization costs more than `max_loss` (a share of the samples)."""
    if measured.loss > max_loss:
        seen = f"{measured.quantized:.4f} (95 %: {measured.low:.4f} to {measured.high:.4f}) against {measured.fp32:.4f} in fp32"
        raise error("BUILD_ACCURACY", thing, f"{seen} on {measured.samples} samples; at most {max_loss} may be lost")


def agreement(ones: Answers, others: Answers, processing: Processing) -> float:
    """Share of samples on which both answer the same."""
    agreeing = _agreeing(ones, others, processing)
    return sum(agreeing) / len(agreeing)


def _agreeing(ones: Answers, others: Answers, processing: Processing) -> list[bool]:
    return [processing.agree(one, other) for one, other in zip(ones, others, strict=True)]


def golden_indices(samples: int, wanted: int) -> list[int]:
    """Evenly spread over the held-out set, the same for every build of it."""
    return sorted({int(n) for n in np.linspace(0, samples - 1, min(wanted, samples))})


def tolerance(quantized: F32, fp32: F32, processing: Processing) -> Tolerance:
    """What the golden vectors showed here, with room for another instruction set; one vector may name another class.

    The largest value of a detector's whole grid names nothing: there the answers are compared.
    """
    seen, one = float(np.abs(quantized - fp32).max()), 1 / len(fp32)
    max_abs = round(seen * 1.5 + 0.02, 4)
    if processing.classes:
        share = golden.answer_agreement(fp32, quantized, processing)
        return Tolerance(max_abs=max_abs, top1_agreement=0.0, answer_agreement=max(0.0, share - one))
    return Tolerance(max_abs=max_abs, top1_agreement=max(0.0, golden.agreement(quantized, fp32) - one))


def limits(rss_bytes: int, cpu_p95_us: float) -> Limits:
    return Limits(
        memory_bytes=max(MIN_MEMORY_BYTES, int(rss_bytes * _MEMORY_ROOM)),
        latency_p95_us=max(MIN_LATENCY_US, int(cpu_p95_us * _LATENCY_ROOM)),
    )
