"""What the front counts of each model version, since it was started. Pure: times come in as arguments.

The parts of a request's time: compute_input is reading tensors and writing the cell, queue is waiting for the worker, compute_infer is the
worker's, compute_output is making the answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

QUEUE_EDGES_US = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000)
DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


class Times(NamedTuple):
    """Of one answered request, in nanoseconds."""

    total: int
    queue: int
    compute_input: int
    compute_infer: int
    compute_output: int


@dataclass
class Count:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass
class ModelCounts:
    last_inference_ms: int = 0  # UTC
    durations: dict[str, Count] = field(default_factory=lambda: {name: Count() for name in DURATIONS})
    queue_buckets: list[int] = field(default_factory=lambda: [0] * (len(QUEUE_EDGES_US) + 1))

    def answered(self, times: Times, utc_ms: int) -> None:
        self.last_inference_ms = utc_ms
        durations = self.durations
        durations["success"].add(times.total)
        durations["queue"].add(times.queue)
        durations["compute_input"].add(times.compute_input)
        durations["compute_infer"].add(times.compute_infer)
        durations["compute_output"].add(times.compute_output)
        self.queue_buckets[bisect_left(QUEUE_EDGES_US, times.queue / 1000)] += 1

    def failed(self, total_ns: int) -> None:
        self.durations["fail"].add(total_ns)

    def message(self, name: str, version: str) -> dict[str, Any]:
        """As the statistics extension has it. One request is one execution: the front does not see batches."""
        answered = self.durations["success"].count
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference_ms,
            "inference_count": answered,
            "execution_count": answered,
            "inference_stats": {key: {"count": value.count, "ns": value.ns} for key, value in self.durations.items()},
            "batch_stats": [],
        }


Counts = Mapping[tuple[str, str], ModelCounts]  # (name, version) -> counts

_COUNTERS = (
    ("nv_inference_request_success", "Requests answered", lambda c: c.durations["success"].count),
    ("nv_inference_request_failure", "Requests refused or failed", lambda c: c.durations["fail"].count),
    ("nv_inference_count", "Inferences, one a request", lambda c: c.durations["success"].count),
    ("nv_inference_request_duration_us", "Time of answered requests in the front and behind it", lambda c: _us(c, "success")),
    ("nv_inference_queue_duration_us", "Time that answered requests waited for the worker", lambda c: _us(c, "queue")),
    ("nv_inference_compute_input_duration_us", "Time of reading tensors", lambda c: _us(c, "compute_input")),
    ("nv_inference_compute_infer_duration_us", "Time of the worker's computing", lambda c: _us(c, "compute_infer")),
    ("nv_inference_compute_output_duration_us", "Time of making answers", lambda c: _us(c, "compute_output")),
)  # fmt: skip


def _us(counts: ModelCounts, name: str) -> int:
    return counts.durations[name].ns // 1000


def exposition(counts: Counts, pending: Mapping[tuple[str, str], int]) -> str:
    """The Prometheus text format."""
    return "\n".join((*_counters(counts), *_pending(pending), *_queue(counts), ""))


def _counters(counts: Counts) -> Iterator[str]:
    for name, text, value in _COUNTERS:
        yield from _head(name, text, "counter")
        yield from (f"{name}{{{_labels(*key)}}} {value(one)}" for key, one in counts.items())


def _pending(pending: Mapping[tuple[str, str], int]) -> Iterator[str]:
    yield from _head("nv_inference_pending_request_count", "Requests that wait for a cell or an answer", "gauge")
    yield from (f"nv_inference_pending_request_count{{{_labels(*key)}}} {value}" for key, value in pending.items())


def _queue(counts: Counts) -> Iterator[str]:
    yield from _head("skerry_oip_queue_us", "Time that a request waited for the worker", "histogram")
    for key, one in counts.items():
        labels, below = _labels(*key), 0
        for edge, count in zip((*map(str, QUEUE_EDGES_US), "+Inf"), one.queue_buckets):
            below += count
            yield f'skerry_oip_queue_us_bucket{{{labels},le="{edge}"}} {below}'
        yield f"skerry_oip_queue_us_sum{{{labels}}} {_us(one, 'queue')}"
        yield f"skerry_oip_queue_us_count{{{labels}}} {below}"


def _head(name: str, text: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _labels(name: str, version: str) -> str:
    return f'model="{name}",version="{version}"'
