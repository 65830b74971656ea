"""One device's attempt to carry out one order of a campaign, as the server sees it.

Rules:
- The device moves it by its reports, in any order they arrive; a report may skip states (an offline device sends late what it
  did), but it never moves an execution back.
- Terminal states never change. A report that the table does not allow is kept, and changes nothing.
- The server itself only offers, times out, supersedes, and cancels what was not offered yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from contracts.states import TERMINAL, State
from control_plane.domain.evidence import Evidence

S = State
# fmt: off
# what a device may report next          from: to
REPORTED: dict[State, frozenset[State]] = {
    S.QUEUED:          frozenset(),
    S.OFFERED:         frozenset({S.DOWNLOADING, S.STAGED, S.BUILDING_ENGINE, S.SHADOWING, S.ACTIVATING, S.PROBATION, S.CONFIRMED,
                                  S.ROLLING_BACK, S.REJECTED, S.FAILED, S.TIMED_OUT, S.CANCELED, S.SUPERSEDED, S.REVERTED}),
    S.DOWNLOADING:     frozenset({S.STAGED, S.BUILDING_ENGINE, S.SHADOWING, S.ACTIVATING, S.PROBATION, S.CONFIRMED,
                                  S.ROLLING_BACK, S.REJECTED, S.FAILED, S.TIMED_OUT, S.CANCELED, S.SUPERSEDED, S.REVERTED}),
    S.STAGED:          frozenset({S.BUILDING_ENGINE, S.SHADOWING, S.ACTIVATING, S.PROBATION, S.CONFIRMED,
                                  S.ROLLING_BACK, S.REJECTED, S.FAILED, S.TIMED_OUT, S.CANCELED, S.SUPERSEDED, S.REVERTED}),
    S.BUILDING_ENGINE: frozenset({S.SHADOWING, S.ACTIVATING, S.PROBATION, S.CONFIRMED,
                                  S.ROLLING_BACK, S.REJECTED, S.FAILED, S.TIMED_OUT, S.CANCELED, S.SUPERSEDED, S.REVERTED}),
    S.SHADOWING:       frozenset({S.ACTIVATING, S.PROBATION, S.CONFIRMED,
                                  S.ROLLING_BACK, S.FAILED, S.TIMED_OUT, S.CANCELED, S.SUPERSEDED, S.REVERTED}),
    S.ACTIVATING:      frozenset({S.PROBATION, S.CONFIRMED, S.ROLLING_BACK, S.REVERTED}),
    S.PROBATION:       frozenset({S.CONFIRMED, S.ROLLING_BACK, S.REVERTED}),
    S.ROLLING_BACK:    frozenset({S.REVERTED}),
    **{state: frozenset() for state in TERMINAL},
}
# what the server itself may do           from: to
SERVER: dict[State, frozenset[State]] = {
    S.QUEUED: frozenset({S.OFFERED, S.CANCELED, S.SUPERSEDED}),
    **{state: frozenset({S.TIMED_OUT, S.SUPERSEDED}) for state in REPORTED if state not in TERMINAL and state is not S.QUEUED},
    **{state: frozenset() for state in TERMINAL},
}
# fmt: on
BEFORE_ACTIVATING = frozenset({S.QUEUED, S.OFFERED, S.DOWNLOADING, S.STAGED, S.BUILDING_ENGINE, S.SHADOWING})
# Ended on the device without its running bundle having changed, or with the change undone.
BACK_ON_PREVIOUS = frozenset({S.REJECTED, S.FAILED, S.REVERTED, S.CANCELED})


@dataclass(frozen=True)
class Execution:
    """`previous_digest` is what the device had confirmed when this was queued ("" = nothing): where a roll back leads."""

    id: str
    device: str
    wave: int
    kind: Literal["install", "rollback"]
    target_digest: str
    previous_digest: str
    fence: int
    state: State = State.QUEUED
    activate: bool = False
    withdrawn: bool = False  # the order was taken back; the device's answer is still awaited
    code: str = ""
    detail: str = ""
    offered_utc: datetime | None = None
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def open(self) -> bool:
        return self.state not in TERMINAL

    @property
    def taken_back(self) -> bool:
        """Did it end, or will it, because we no longer wanted it? Then it says nothing about the device or the bundle."""
        never_offered = self.state is State.CANCELED and self.offered_utc is None
        return never_offered or (self.withdrawn and self.state in BEFORE_ACTIVATING | {State.CANCELED, State.TIMED_OUT})


def reported(execution: Execution, state: State, code: str, detail: str) -> Execution | None:
    """The execution after the device's transition to `state`; None when the report changes nothing (late or repeated)."""
    if state not in REPORTED[execution.state]:
        return None
    return replace(execution, state=state, code=code, detail=detail)


def moved(execution: Execution, state: State, code: str = "", detail: str = "") -> Execution:
    """The execution after the server's own move. A move without a row is a bug, and raises ValueError."""
    if state not in SERVER[execution.state]:
        raise ValueError(f"{execution.id}: the server cannot move {execution.state.value} to {state.value}")
    return replace(execution, state=state, code=code, detail=detail)
