"""States of an execution. The device's table is in edge_agent/core/update.py, the server's in control_plane/domain/execution.py."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    IDLE = "IDLE"  # device only
    QUEUED = "QUEUED"  # server only
    OFFERED = "OFFERED"
    DOWNLOADING = "DOWNLOADING"
    STAGED = "STAGED"
    BUILDING_ENGINE = "BUILDING_ENGINE"
    SHADOWING = "SHADOWING"
    ACTIVATING = "ACTIVATING"
    PROBATION = "PROBATION"
    CONFIRMED = "CONFIRMED"
    ROLLING_BACK = "ROLLING_BACK"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELED = "CANCELED"
    SUPERSEDED = "SUPERSEDED"
    REVERTED = "REVERTED"


TERMINAL = frozenset({State.CONFIRMED, State.REJECTED, State.FAILED, State.TIMED_OUT, State.CANCELED, State.SUPERSEDED, State.REVERTED})
