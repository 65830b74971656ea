"""PURE: how often the same thing happened, for those who must hear of it and must not be flooded: an attacker may cause it at will.

The first time is due at once; what comes within the pause after that is counted, and due together when the pause is over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class Told(Generic[K]):
    """`count` times since it was last told; `detail` of the last time."""

    key: K
    count: int
    detail: str


@dataclass
class _Held:
    count: int = 0
    detail: str = ""
    told_s: float = -math.inf


class Tally(Generic[K]):
    """At most `limit` keys are told apart; what does not fit is counted under `other`. Times are monotonic seconds."""

    def __init__(self, pause_s: float, other: K, limit: int = 256) -> None:
        self._pause_s, self._other, self._limit = pause_s, other, limit
        self._held: dict[K, _Held] = {}

    def count(self, key: K, detail: str, times: int = 1) -> None:
        if key not in self._held and len(self._held) >= self._limit:
            key = self._other
        held = self._held.setdefault(key, _Held())
        held.count, held.detail = held.count + times, detail

    def due(self, now_s: float) -> list[Told[K]]:
        """What is to be told now; it counts as told."""
        told = []
        for key, held in list(self._held.items()):
            if now_s - held.told_s < self._pause_s:
                continue
            if held.count:
                told.append(Told(key, held.count, held.detail))
                self._held[key] = _Held(told_s=now_s)
            else:
                del self._held[key]
        return told

    def not_told(self, told: Told[K]) -> None:
        """It did not get through: due again at once."""
        self.count(told.key, told.detail, told.count)
        self._held.get(told.key, _Held()).told_s = -math.inf
