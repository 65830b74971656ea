"""Probation: is the new model well on live frames? Judged by the device on its own absolute limits alone.

Agreement and latency relative to the incumbent are the campaign's to judge (promise P5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from processing.latency import empty, merge, percentile_us

Verdict = Literal["wait", "well"] | tuple[str, str]  # or (error code, detail)


@dataclass(frozen=True)
class Rules:
    min_s: float
    min_frames: int
    latency_p95_us: float


@dataclass(frozen=True)
class Observed:
    """Summed windows of one digest since it went live."""

    frames: int = 0
    not_finite: int = 0
    unfit: int = 0  # frames that its pre-processing cannot work on
    latency: tuple[int, ...] = tuple(empty())

    def plus(self, window: Mapping[str, Any]) -> Observed:
        """`window` as in contracts/pipeline.py."""
        return replace(
            self,
            frames=self.frames + int(window["frames"]),
            not_finite=self.not_finite + int(window["not_finite"]),
            unfit=self.unfit + int(window.get("refusals", {}).get("FRAME_SHAPE", 0)),
            latency=tuple(merge(self.latency, window["latency"])),
        )


def judge(observed: Observed, rules: Rules, elapsed_s: float) -> Verdict:
    """NaN condemns at once; the rest is judged when there are enough frames: that any fits, and latency. Time alone proves nothing."""
    if observed.not_finite:
        return "WORKER_NOT_FINITE", f"{observed.not_finite} of {observed.frames} frames"
    if elapsed_s < rules.min_s or observed.frames < rules.min_frames:
        return "wait"
    if observed.unfit and not sum(observed.latency):
        return "FRAME_SHAPE", f"none of {observed.frames} frames fits its pre-processing"
    if sum(observed.latency) and percentile_us(observed.latency, 0.95) > rules.latency_p95_us:
        return "BUNDLE_LIMITS", f"p95 {percentile_us(observed.latency, 0.95):.0f} us, own limit {rules.latency_p95_us:.0f} us"
    return "well"
