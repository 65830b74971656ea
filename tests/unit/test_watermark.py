"""Fresh, duplicate, ahead or overlap: each row of the table in sync/watermark.py, and plans against a simple model."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.watermark import Verdict, judge, plan


@dataclass(frozen=True)
class Numbered:
    seq: int
    last_seq: int
    copy: int = 0


@pytest.mark.parametrize(
    ("watermark", "seq", "last_seq", "verdict"),
    [
        (0, 1, 1, Verdict.FRESH),
        (0, 1, 9, Verdict.FRESH),
        (5, 6, 6, Verdict.FRESH),
        (5, 5, 5, Verdict.DUPLICATE),
        (5, 2, 5, Verdict.DUPLICATE),
        (5, 7, 7, Verdict.AHEAD),
        (5, 7, 9, Verdict.AHEAD),
        (5, 5, 6, Verdict.OVERLAP),
        (5, 1, 9, Verdict.OVERLAP),
    ],
)
def test_verdicts(watermark: int, seq: int, last_seq: int, verdict: Verdict) -> None:
    assert judge(watermark, seq, last_seq) is verdict


@pytest.mark.parametrize(("seq", "last_seq"), [(0, 0), (3, 2), (-1, 4)])
def test_a_range_of_nothing_is_a_bug_of_the_caller(seq: int, last_seq: int) -> None:
    with pytest.raises(ValueError, match="is not a range"):
        judge(0, seq, last_seq)


@given(
    watermark=st.integers(0, 12),
    lengths=st.lists(st.integers(1, 3), min_size=1, max_size=12),
    order=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2)), max_size=30, unique=True),
)
def test_plans_are_contiguous_and_lose_nothing(watermark: int, lengths: list[int], order: list[tuple[int, int]]) -> None:
    """Any subset of a device's records, in any order, some of them more than once."""
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    records = [Numbered(end - length + 1, end) for end, length in zip(ends, lengths)]
    arrived = [Numbered(records[i].seq, records[i].last_seq, copy) for i, copy in order if i < len(records)]
    made = plan(watermark, arrived)
    at = watermark
    for record in made.fresh:
        assert record.seq == at + 1
        at = record.last_seq
    assert all(record.last_seq <= at for record in made.duplicates)
    assert all(record.seq > at + 1 for record in made.ahead)
    assert all(record.seq <= at < record.last_seq for record in made.overlaps)
    assert sorted(map(hash, made.fresh + made.duplicates + made.ahead + made.overlaps)) == sorted(map(hash, arrived))
