"""What a device's windows say about one execution, folded: integers and histograms that add up in any order."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from contracts.reports import Window
from processing import latency, moments
from processing.moments import Moments


def _histogram(counts: tuple[int, ...]) -> tuple[int, ...]:
    return counts if len(counts) == latency.BUCKETS else tuple(latency.empty())


def _sum(left: Any, right: Any) -> Any:
    if isinstance(left, Moments):
        return moments.merge(left, right)
    return tuple(latency.merge(_histogram(left), _histogram(right))) if isinstance(left, tuple) else left + right


@dataclass(frozen=True)
class Evidence:
    """Live: frames that the target answered, in its probation and as long as its wave is watched after it.

    Shadow: frames that incumbent and target both answered.
    """

    frames: int = 0
    refused: int = 0
    not_finite: int = 0
    latency: tuple[int, ...] = ()
    pairs: int = 0
    agreed: int = 0
    candidate_latency: tuple[int, ...] = ()
    incumbent_latency: tuple[int, ...] = ()
    score_shift: Moments = moments.NOTHING  # the candidate's score minus the incumbent's
    local_rollbacks: int = 0  # the device went back by itself after it had confirmed

    def __add__(self, other: Evidence) -> Evidence:
        mine, theirs = asdict(self), asdict(other)
        return Evidence.from_json({name: _sum(mine[name], theirs[name]) for name in mine})

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Evidence:
        known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**{**known, "score_shift": Moments(*known.get("score_shift", ()))})


def of_window(window: Window, target_digest: str) -> Evidence:
    """What one window says about `target_digest`; nothing, when it speaks of another bundle."""
    if window.bundle_digest == target_digest:
        return Evidence(frames=window.frames, refused=window.refused, not_finite=window.not_finite, latency=window.latency)
    if window.shadow_digest == target_digest:
        return Evidence(
            pairs=window.pairs, agreed=window.agreed, candidate_latency=window.shadow_latency, incumbent_latency=window.latency,
            score_shift=Moments(*window.score_shift),
        )  # fmt: skip
    return Evidence()
