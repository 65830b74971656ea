"""What a model must show before it serves: finite answers, golden vectors within tolerance, its own limits kept. Every start repeats it.

Golden outputs come from the fp32 reference at packaging; here they meet this device's backend and precision. Latency is judged by the CPU
time of the computing thread where the backend computes there: a busy neighbour at start is not the model's fault, and wall-clock
latency is watched for as long as it runs. Memory is the whole process: interpreter, backend and model.
"""

from __future__ import annotations

import resource
import time
from typing import Any, Callable

import numpy as np

from edge_agent.inference.worker.backends import BackendError, Session
from edge_agent.inference.worker.slot import Slot, golden
from edge_agent.inference.worker.start_error import StartError
from processing import pipeline
from processing.golden import answer_agreement, compare
from processing.spec import SpecError

Array = Any
WARM_UP_RUNS = 3
TIMED_RUNS = 50
TIMED_AT_MOST_S = 1.0


def self_test(slot: Slot, session: Session) -> dict[str, Any]:
    """Measured figures. Raises StartError WORKER_NOT_FINITE, BUNDLE_GOLDEN, BUNDLE_LIMITS, with the figures inside."""
    inputs, outputs = golden(slot)
    runner = Runner(slot, session)
    for _ in range(WARM_UP_RUNS):
        runner.run(inputs[: runner.batch])
    runner.clear_times()
    seen = runner.run(inputs)
    result = compare(outputs, seen)
    runner.time_on(inputs)
    figures = {**runner.figures(), "golden": {"vectors": len(inputs), "max_abs": result.max_abs, "top1_agreement": result.top1_agreement}}
    if not result.finite:
        raise StartError("WORKER_NOT_FINITE", "the model answers its golden inputs with NaN or infinity", figures)
    _check_tolerance(slot.tolerance, figures)
    _check_answers(slot, outputs, seen, figures)
    _check_limits(slot.manifest["limits"], figures)
    return figures


class Runner:
    """Runs vectors of any number through a session's own buffers, and keeps the times of each request in microseconds."""

    def __init__(self, slot: Slot, session: Session) -> None:
        self.batch = slot.input.shape[0]
        self._input, self._output = np.zeros(slot.input.shape, slot.input.dtype), np.zeros(slot.output.shape, slot.output.dtype)
        self._compute: Callable[[], None] = session.bind(self._input, self._output)
        self._by_cpu = session.compute_is_cpu
        self.clear_times()

    def run(self, inputs: Array) -> Array:
        """(n, ...) -> (n, ...); n must be a multiple of the model's batch. Raises StartError BUNDLE_SELF_TEST."""
        if len(inputs) % self.batch:
            raise StartError("BUNDLE_GOLDEN", f"{len(inputs)} vectors do not fill requests of {self.batch}")
        return np.concatenate([self._once(inputs[i : i + self.batch]) for i in range(0, len(inputs), self.batch)])

    def time_on(self, inputs: Array) -> None:
        """More requests, so that percentiles mean something: TIMED_RUNS in all, or as many as fit TIMED_AT_MOST_S."""
        until = time.monotonic() + TIMED_AT_MOST_S
        starts = range(0, len(inputs), self.batch)
        while len(self.wall_us) < TIMED_RUNS and time.monotonic() < until:
            for start in starts:
                self._once(inputs[start : start + self.batch])

    def clear_times(self) -> None:
        self.wall_us: list[float] = []
        self.cpu_us: list[float] = []

    def figures(self) -> dict[str, Any]:
        judged = self.cpu_us if self._by_cpu else self.wall_us
        return {
            "latency_p50_us": percentile(self.wall_us, 50),
            "latency_p95_us": percentile(self.wall_us, 95),
            "cpu_p95_us": percentile(self.cpu_us, 95),
            "judged_p95_us": percentile(judged, 95),
            "rss_bytes": resident_bytes(),
        }

    def _once(self, values: Array) -> Array:
        self._input[...] = values
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        try:
            self._compute()
        except BackendError as refused:
            raise StartError("BUNDLE_SELF_TEST", str(refused)) from refused
        self.cpu_us.append((time.thread_time_ns() - cpu) / 1e3)
        self.wall_us.append((time.perf_counter_ns() - wall) / 1e3)
        return self._output.copy()


def _check_tolerance(tolerance: dict[str, Any], figures: dict[str, Any]) -> None:
    seen = figures["golden"]
    if seen["max_abs"] > tolerance["max_abs"]:
        raise StartError("BUNDLE_GOLDEN", "max abs error {:.4g} > {:.4g}".format(seen["max_abs"], tolerance["max_abs"]), figures)
    if seen["top1_agreement"] < tolerance["top1_agreement"]:
        detail = "top-1 agreement {:.3f} < {:.3f}".format(seen["top1_agreement"], tolerance["top1_agreement"])
        raise StartError("BUNDLE_GOLDEN", detail, figures)


def _check_answers(slot: Slot, expected: Array, actual: Array, figures: dict[str, Any]) -> None:
    """Of a detector: its boxes, as the bundle's own processing reads them."""
    least = slot.tolerance.get("answer_agreement", 0)
    if not least:
        return
    try:
        processing = pipeline.compile(pipeline.read((slot.folder / "processing.json").read_bytes()))
        processing.check(slot.input.shape, slot.output.shape)
    except (OSError, SpecError) as unfit:
        raise StartError("BUNDLE_PROCESSING", str(unfit), figures) from unfit
    seen = figures["golden"]["answer_agreement"] = answer_agreement(expected, actual, processing)
    if seen < least:
        raise StartError("BUNDLE_GOLDEN", f"answers agree on {seen:.3f} of the vectors, {least:.3f} are wanted", figures)


def _check_limits(limits: dict[str, Any], figures: dict[str, Any]) -> None:
    for limit, figure in (("memory_bytes", "rss_bytes"), ("latency_p95_us", "judged_p95_us")):
        if figures[figure] > limits[limit]:
            raise StartError("BUNDLE_LIMITS", f"{limit}: {figures[figure]:.0f} > {limits[limit]}", figures)


def percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else 0.0


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
