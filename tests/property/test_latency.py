"""Latency histograms: a percentile errs only upwards and by less than one bucket; merging is adding."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.latency import BUCKETS, EDGES_US, bucket, empty, merge, percentile_us

# within the edges, so that the exact answer is finite
latencies = st.lists(st.floats(min_value=EDGES_US[0], max_value=EDGES_US[-1]), min_size=1, max_size=200)
shares = st.floats(min_value=0.01, max_value=1.0)
STEP = 2**0.25


def histogram(samples: list[float]) -> list[int]:
    counts = empty()
    for us in samples:
        counts[bucket(us)] += 1
    return counts


def exact(samples: list[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@given(latencies, shares)
def test_a_percentile_errs_upwards_by_less_than_a_bucket(samples: list[float], share: float) -> None:
    true, told = exact(samples, share), percentile_us(histogram(samples), share)
    assert true <= told * (1 + 1e-12)
    assert told <= true * STEP * (1 + 1e-12)


@given(latencies, latencies, shares)
def test_merged_histograms_are_the_histogram_of_all_samples(left: list[float], right: list[float], share: float) -> None:
    merged = merge(histogram(left), histogram(right))
    assert merged == histogram(left + right)
    assert percentile_us(merged, share) <= max(percentile_us(histogram(left), share), percentile_us(histogram(right), share))


@given(latencies, shares, shares)
def test_a_larger_share_is_never_faster(samples: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert percentile_us(histogram(samples), low) <= percentile_us(histogram(samples), high)


@given(st.floats(min_value=0, max_value=1e9))
def test_every_latency_has_its_bucket(us: float) -> None:
    index = bucket(us)
    assert 0 <= index < BUCKETS
    assert index == 0 or EDGES_US[index - 1] < us
    assert index == BUCKETS - 1 or us <= EDGES_US[index]


def test_the_edges_are_those_of_the_wire() -> None:
    assert len(EDGES_US) == 63
    assert BUCKETS == 64
    assert EDGES_US[0] == 16
    assert EDGES_US[4] == 32


def test_no_evidence_is_not_a_latency_of_zero() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile_us(empty(), 0.95)


def test_what_lies_above_the_last_edge_is_infinite() -> None:
    assert percentile_us(histogram([EDGES_US[-1] * 2]), 0.5) == math.inf
