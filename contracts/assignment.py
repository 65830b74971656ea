"""`assignment.json`: the director's one target. Which device shall run what, and how it may get there."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from contracts.ids import DeviceId, Sha256, Wire
from contracts.states import State

ASSIGNMENT_TARGET = "assignment.json"
ASSIGNMENT_MAX_BYTES = 64 * 1024
KINDS = ("install", "rollback", "none")


class Component(Wire):
    """`target` is a path in the image repository; length and hashes must be equal there."""

    name: Literal["model", "agent", "os"] = "model"
    target: str
    length: int = Field(gt=0)
    sha256: Sha256


class Probation(Wire):
    min_s: float = Field(ge=0)
    min_frames: int = Field(ge=0)


class AckKey(Wire):
    """A key that ingest signs acks with: raw Ed25519 public key, hex."""

    key_id: str
    public_key: str = Field(pattern=r"^[0-9a-f]{64}$")


class Assignment(Wire):
    """`kind` is a plain string on purpose: an unknown one is a code (ASSIGNMENT_KIND), not a parse failure."""

    version: Literal[1] = 1
    device: DeviceId
    desired_generation: int = Field(ge=0)
    issued_at: datetime
    kind: str
    execution: str = ""  # "" when kind is none
    fence: int = Field(default=0, ge=0)
    components: tuple[Component, ...] = ()
    activate: bool = False
    shadow_pairs: int = Field(default=0, ge=0)
    probation: Probation = Probation(min_s=0, min_frames=0)
    deadline_utc: dict[State, datetime] = {}
    security_epoch_floor: int = Field(default=0, ge=0)
    poll_interval_s: float = Field(default=30, gt=0)
    report_window_s: float = Field(default=30, gt=0)
    ack_keys: tuple[AckKey, ...] = ()
