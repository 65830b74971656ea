"""A wave: some of a campaign's devices, the gates they must pass, and the time to watch them.

Rules: a wave opens only when the one before it has PASSED; its devices, and so every denominator, are fixed when it opens;
FAILED may be entered at once, without waiting for stragglers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from contracts.operator import Gate, GateView, WaveState

# fmt: off
TRANSITIONS: dict[WaveState, frozenset[WaveState]] = {
    "PENDING": frozenset({"OPEN"}),
    "OPEN":    frozenset({"SOAKING", "FAILED"}),
    "SOAKING": frozenset({"PASSED", "FAILED"}),
    "PASSED":  frozenset(),
    "FAILED":  frozenset(),
}
# fmt: on
RUNNING: frozenset[WaveState] = frozenset({"OPEN", "SOAKING"})


@dataclass(frozen=True)
class Wave:
    number: int  # from 1
    devices: tuple[str, ...]
    gates: tuple[Gate, ...]
    soak_s: float = 0
    state: WaveState = "PENDING"
    deadline_utc: datetime | None = None  # set when it opens: what is not proven by then has failed
    soak_until_utc: datetime | None = None
    verdicts: tuple[GateView, ...] = ()


def entered(wave: Wave, state: WaveState) -> Wave:
    """The wave in `state`; ValueError where the table has no row, which is a bug."""
    if state not in TRANSITIONS[wave.state]:
        raise ValueError(f"wave {wave.number} cannot go from {wave.state} to {state}")
    return replace(wave, state=state)
