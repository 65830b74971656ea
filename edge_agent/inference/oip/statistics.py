"""What the front counts of each model version, since it was started. Pure: times come in as arguments.

The parts of a request's time: compute_input is reading tensors and writing the cell, queue is waiting for the worker, compute_infer is the
worker's, compute_output is making the answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
QUEUE_EDGES_US = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000)


class Times(NamedTuple):
    """Of one answered request, in nanoseconds."""

    success: int  # all of it
    queue: int
    compute_input: int
    compute_infer: int
    compute_output: int


@dataclass
class ModelCounts:
    last_inference_ms: int = 0  # UTC
    answered: int = 0
    sums: list[int] = field(default_factory=lambda: [0] * len(Times._fields))  # nanoseconds of all that were answered
    failed: int = 0
    failed_ns: int = 0
    queue_buckets: list[int] = field(default_factory=lambda: [0] * (len(QUEUE_EDGES_US) + 1))

    def answer(self, times: Times, utc_ms: int) -> None:
        self.last_inference_ms = utc_ms
        self.answered += 1
        self.sums = [total + ns for total, ns in zip(self.sums, times)]
        self.queue_buckets[bisect_left(QUEUE_EDGES_US, times.queue / 1000)] += 1

    def failure(self, ns: int) -> None:
        self.failed += 1
        self.failed_ns += ns

    def us(self, part: str) -> int:
        return self.sums[Times._fields.index(part)] // 1000

    def message(self, name: str, version: str) -> dict[str, Any]:
        """As the statistics extension has it. One request is one execution: the front does not see batches."""
        parts = {part: {"count": self.answered, "ns": ns} for part, ns in zip(Times._fields, self.sums)}
        nothing = {"count": 0, "ns": 0}
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference_ms,
            "inference_count": self.answered,
            "execution_count": self.answered,
            "inference_stats": {**parts, "fail": {"count": self.failed, "ns": self.failed_ns}, "cache_hit": nothing, "cache_miss": nothing},
            "batch_stats": [],
        }


@dataclass
class TrialCounts:
    """Of one candidate beside a live model."""

    sent: int = 0
    shed: Counter[str] = field(default_factory=Counter)  # by error code, or QUEUE_FULL, CALLERS_WAIT
    compared: int = 0
    agreed: int = 0
    canary_answered: int = 0
    canary_failed: int = 0


Counts = Mapping[tuple[str, str], ModelCounts]  # (name, version) -> counts

_COUNTERS: tuple[tuple[str, str, Callable[[ModelCounts], int]], ...] = (
    ("nv_inference_request_success", "Requests answered", lambda c: c.answered),
    ("nv_inference_request_failure", "Requests refused or failed", lambda c: c.failed),
    ("nv_inference_count", "Inferences, one a request", lambda c: c.answered),
    ("nv_inference_request_duration_us", "Time of answered requests in the front and behind it", lambda c: c.us("success")),
    ("nv_inference_queue_duration_us", "Time that answered requests waited for the worker", lambda c: c.us("queue")),
    ("nv_inference_compute_input_duration_us", "Time of reading tensors", lambda c: c.us("compute_input")),
    ("nv_inference_compute_infer_duration_us", "Time of the worker's computing", lambda c: c.us("compute_infer")),
    ("nv_inference_compute_output_duration_us", "Time of making answers", lambda c: c.us("compute_output")),
)  # fmt: skip


Trials = Mapping[tuple[str, str], TrialCounts]  # (name, version) of the candidate -> counts

_TRIAL_COUNTERS: tuple[tuple[str, str, Callable[[TrialCounts], int]], ...] = (
    ("skerry_oip_shadow_sent", "Requests of the live model copied to the candidate", lambda c: c.sent),
    ("skerry_oip_shadow_compared", "Copies whose answer was held against the live model's", lambda c: c.compared),
    ("skerry_oip_shadow_agreed", "Copies that got the same answer", lambda c: c.agreed),
    ("skerry_oip_canary_answered", "Requests that the candidate answered in place of the live model", lambda c: c.canary_answered),
    ("skerry_oip_canary_failed", "Requests that the candidate was to answer and the live model answered", lambda c: c.canary_failed),
)


def exposition(counts: Counts, pending: Mapping[tuple[str, str], int], trials: Trials) -> str:
    """The Prometheus text format."""
    lines = (*_counters(_COUNTERS, counts), *_pending(pending), *_queue(counts), *_counters(_TRIAL_COUNTERS, trials), *_shed(trials))
    return "\n".join((*lines, ""))


def _counters(table: Iterable[tuple[str, str, Callable[[T], int]]], counts: Mapping[tuple[str, str], T]) -> Iterator[str]:
    for name, text, value in table:
        yield from _head(name, text, "counter")
        yield from (f"{name}{{{_labels(*key)}}} {value(one)}" for key, one in counts.items())


def _shed(trials: Trials) -> Iterator[str]:
    yield from _head("skerry_oip_shadow_shed", "Copies that were not made, or got no answer", "counter")
    for key, one in trials.items():
        yield from (f'skerry_oip_shadow_shed{{{_labels(*key)},code="{code}"}} {count}' for code, count in one.shed.items())


def _pending(pending: Mapping[tuple[str, str], int]) -> Iterator[str]:
    yield from _head("skerry_oip_pending", "Requests that wait for a cell or an answer", "gauge")
    yield from (f"skerry_oip_pending{{{_labels(*key)}}} {value}" for key, value in pending.items())


def _queue(counts: Counts) -> Iterator[str]:
    yield from _head("skerry_oip_queue_us", "Time that a request waited for the worker", "histogram")
    for key, one in counts.items():
        labels, below = _labels(*key), 0
        for edge, count in zip((*map(str, QUEUE_EDGES_US), "+Inf"), one.queue_buckets):
            below += count
            yield f'skerry_oip_queue_us_bucket{{{labels},le="{edge}"}} {below}'
        yield f"skerry_oip_queue_us_sum{{{labels}}} {one.us('queue')}"
        yield f"skerry_oip_queue_us_count{{{labels}}} {below}"


def _head(name: str, text: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _labels(name: str, version: str) -> str:
    return f'model="{name}",version="{version}"'
