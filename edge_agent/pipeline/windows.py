"""What happened since the last window, under one pair of routes. Pure; time is handed in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from processing import latency, moments
from processing.moments import Moments


class Window:
    """Deltas for the `window` message of contracts/pipeline.py; latencies are the worker's compute times."""

    def __init__(self, now_s: float, live: str = "", shadow: str = "") -> None:
        self._since_s, self._live, self._shadow = now_s, live, shadow
        self.frames = self.accepted = self.not_finite = self.pairs = self.agreed = self.window_rows_refused = 0
        self._refusals: Counter[str] = Counter()
        self._latency, self._shadow_latency, self._shift = latency.empty(), latency.empty(), Moments()

    def refuse(self, code: str, frames: int = 1) -> None:
        self._refusals[code] += frames

    def answered(self, compute_us: float) -> None:
        self._latency[latency.bucket(compute_us)] += 1

    def shadow_answered(self, compute_us: float) -> None:
        self._shadow_latency[latency.bucket(compute_us)] += 1

    def pair(self, agreed: bool, shift: float | None) -> None:
        """`shift`: see processing.answers.shift."""
        self.pairs += 1
        self.agreed += agreed
        if shift is not None:
            self._shift = moments.merge(self._shift, moments.of(shift))

    def empty(self) -> bool:
        """An answer of the shadow may come a window later than the frame."""
        return not (self.frames or self.accepted or self._refusals or self.window_rows_refused or self.pairs or any(self._shadow_latency))

    def message(self, now_s: float, cpu_us: int, totals: dict[str, int]) -> dict[str, Any]:
        """`totals`: frames_total, accepted_total, refused_total, pending."""
        return {
            "kind": "window",
            "bundle_digest": self._live,
            "duration_s": round(now_s - self._since_s, 6),
            "frames": self.frames,
            "accepted_rows": self.accepted,
            "refused": sum(self._refusals.values()),
            "refusals": dict(self._refusals),
            "window_rows_refused": self.window_rows_refused,
            "not_finite": self.not_finite,
            "latency": self._latency,
            "cpu_us": cpu_us,
            "shadow_digest": self._shadow,
            "pairs": self.pairs,
            "agreed": self.agreed,
            "shadow_latency": self._shadow_latency if self._shadow else [],
            "score_shift": list(self._shift),
            **totals,
        }
