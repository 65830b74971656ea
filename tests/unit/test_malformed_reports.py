"""Reports that no honest agent sends: refused where the model stands, so nothing of them is stored or judged."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.reports import HISTOGRAM_BUCKETS, MAX_COUNT, MAX_REPORTS, ReportBatch
from processing import latency

HELLO = {"agent_version": "0.1.0", "profile": "p", "running_digest": ""}
WINDOW = {
    "kind": "window", "execution": "c/d/1", "fence": 1, "seq": 1, "boot_id": "b", "mono_ms": 1, "utc": "2026-01-01T00:00:00Z",
    "bundle_digest": "", "duration_s": 1.0, "frames": 5, "accepted_rows": 5, "refused": 0, "not_finite": 0, "latency": latency.empty(),
}  # fmt: skip
NEGATIVE_BUCKET = [-1, *latency.empty()[1:]]


def batch(**changes: Any) -> ReportBatch:
    return ReportBatch.model_validate({"device": "dev-" + "a" * 26, "hello": HELLO, "reports": [{**WINDOW, **changes}]})


def test_an_honest_window_is_read() -> None:
    assert batch(pairs=5, agreed=5, shadow_latency=latency.empty(), latency=[]).reports[0].kind == "window"


@pytest.mark.parametrize(
    "changes",
    [
        *({name: -1} for name in ("frames", "accepted_rows", "refused", "not_finite", "cpu_us", "pairs", "agreed")),
        *({name: -1} for name in ("memory_bytes", "fence", "mono_ms")),
        *({"duration_s": value} for value in (-1, math.nan, math.inf, "long")),
        *({"temperature_c": value} for value in (math.nan, -math.inf)),
        {"latency": NEGATIVE_BUCKET}, {"shadow_latency": NEGATIVE_BUCKET}, {"latency": [1, 2, 3]}, {"latency": [0] * 65},
        {"latency": "x" * 64}, {"pairs": 3, "agreed": 4}, {"frames": MAX_COUNT + 1}, {"frames": 10**4000}, {"frames": 1.5},
        {"seq": 0}, {"seq": MAX_COUNT + 1}, {"execution": "e" * 201}, {"boot_id": "b" * 201}, {"kind": "rumour"}, {"kind": None},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_window_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        batch(**changes)


def test_too_many_reports_and_too_long_words_are_refused() -> None:
    with pytest.raises(ValidationError):
        ReportBatch.model_validate({"device": "dev-" + "a" * 26, "hello": HELLO, "reports": [WINDOW] * (MAX_REPORTS + 1)})
    with pytest.raises(ValidationError):
        ReportBatch.model_validate({"device": "dev-" + "a" * 26, "hello": {**HELLO, "profile": "p" * 201}, "reports": []})


def test_the_histogram_is_the_one_of_processing() -> None:
    """contracts imports nothing of ours, so the number stands there once more."""
    assert HISTOGRAM_BUCKETS == latency.BUCKETS
