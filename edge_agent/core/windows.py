"""Windows of pipeline and front (oip), summed to the reporting interval. Deltas: their sum is the truth, whatever the interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from processing import moments
from processing.latency import empty, merge
from processing.moments import Moments

_SUMS = ("duration_s", "frames", "accepted_rows", "refused", "window_rows_refused", "not_finite", "cpu_us", "pairs", "agreed")
_HISTOGRAMS = ("latency", "shadow_latency")


@dataclass(frozen=True)
class Summary:
    """Of one live digest and one shadow digest ("" for none)."""

    bundle_digest: str
    shadow_digest: str = ""
    duration_s: float = 0.0
    frames: int = 0
    accepted_rows: int = 0
    refused: int = 0
    window_rows_refused: int = 0
    not_finite: int = 0
    cpu_us: int = 0
    pairs: int = 0
    agreed: int = 0
    latency: tuple[int, ...] = tuple(empty())
    shadow_latency: tuple[int, ...] = ()
    score_shift: Moments = moments.NOTHING

    def fits(self, window: Mapping[str, Any]) -> bool:
        return (self.bundle_digest, self.shadow_digest) == (window["bundle_digest"], window.get("shadow_digest") or "")

    def plus(self, window: Mapping[str, Any]) -> Summary:
        """`window` as in contracts/pipeline.py."""
        sums: dict[str, Any] = {name: getattr(self, name) + (window.get(name) or 0) for name in _SUMS}
        histograms: dict[str, Any] = {name: _merged(getattr(self, name), window.get(name) or ()) for name in _HISTOGRAMS}
        shift = moments.merge(self.score_shift, Moments(*window.get("score_shift") or ()))
        return replace(self, **sums, **histograms, score_shift=shift)

    @property
    def blank(self) -> bool:
        return not (self.frames or self.refused or self.window_rows_refused or self.pairs or any(self.shadow_latency))

    def body(self) -> dict[str, Any]:
        """The fields of contracts.reports.Window that come from here."""
        sums = {name: getattr(self, name) for name in _SUMS}
        lists = {name: list(getattr(self, name)) for name in (*_HISTOGRAMS, "score_shift")}
        return {**sums, "shadow_digest": self.shadow_digest, **lists}


def summary_of(window: Mapping[str, Any]) -> Summary:
    return Summary(window["bundle_digest"], window.get("shadow_digest") or "").plus(window)


def _merged(left: tuple[int, ...], right: Any) -> tuple[int, ...]:
    return tuple(merge(left, right)) if left and right else tuple(left or right)
