"""Figures of an evaluation: the accuracy gate, its interval, agreement, golden vectors, limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.errors import RejectedError
from contracts.manifest import Limits
from control_plane.build import figures
from processing import pipeline
from processing.wilson import wilson

LABELS = np.arange(200, dtype=np.int64) % 4
LABELLING = pipeline.compile({"pre": [], "post": [{"op": "top1"}]})
TRUTHS = [LABELLING.truth(label) for label in LABELS]


def outputs(wrong: int) -> NDArray[np.float32]:
    """One-hot outputs for LABELS with the first `wrong` of them off by one class."""
    named = LABELS.copy()
    named[:wrong] = (named[:wrong] + 1) % 4
    return np.eye(4, dtype=np.float32)[named]


def answers(wrong: int) -> figures.Answers:
    return figures.answers(outputs(wrong), LABELLING)


def accuracy(quantized: figures.Answers, fp32: figures.Answers) -> figures.Accuracy:
    return figures.accuracy(quantized, fp32, TRUTHS, LABELLING)


def test_the_gate_passes_at_the_limit_and_refuses_beyond_it() -> None:
    figures.check_accuracy(accuracy(answers(8), answers(4)), 0.02, "qdq_cpu")
    with pytest.raises(RejectedError) as refused:
        figures.check_accuracy(accuracy(answers(9), answers(4)), 0.02, "qdq_cpu")
    assert refused.value.code == "BUILD_ACCURACY"
    assert "0.9550" in refused.value.detail


def test_a_quantized_model_that_is_better_passes() -> None:
    measured = accuracy(answers(0), answers(50))
    figures.check_accuracy(measured, 0.0, "qdq_cpu")
    assert (measured.loss, measured.quantized, measured.per_class) == (-0.25, 1.0, {str(label): 1.0 for label in range(4)})


def test_each_class_is_shown_so_that_one_cannot_pay_for_the_others() -> None:
    one_class_lost = outputs(0)
    one_class_lost[LABELS == 2] = np.eye(4, dtype=np.float32)[3]
    assert accuracy(figures.answers(one_class_lost, LABELLING), answers(0)).per_class == {"0": 1.0, "1": 1.0, "2": 0.0, "3": 1.0}


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_within_one(case: tuple[int, int]) -> None:
    low, high = wilson(*case)
    assert 0 <= low <= case[0] / case[1] + 1e-12
    assert case[0] / case[1] - 1e-12 <= high <= 1


def test_the_interval_is_the_published_one() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I, method 3


def test_agreement_and_tolerance_come_from_what_was_seen() -> None:
    assert figures.agreement(answers(20), answers(0), LABELLING) == 0.9
    tolerance = figures.tolerance(outputs(0)[:16] * np.float32(0.9), outputs(0)[:16], LABELLING)
    assert (tolerance.max_abs, tolerance.top1_agreement) == (0.17, 1 - 1 / 16)


@given(st.integers(1, 5000), st.integers(1, 256))
def test_golden_vectors_are_spread_and_never_more_than_there_are(samples: int, wanted: int) -> None:
    chosen = figures.golden_indices(samples, wanted)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(samples, wanted)
    assert (chosen[0], chosen[-1] if len(chosen) > 1 else samples - 1) == (0, samples - 1)


def test_limits_have_a_floor_and_head_room() -> None:
    assert figures.limits(50 << 20, 33.0).memory_bytes == 192 << 20
    assert figures.limits(50 << 20, 33.0).latency_p95_us == 2000
    assert figures.limits(400 << 20, 3000.0) == Limits(memory_bytes=600 << 20, latency_p95_us=15_000)
