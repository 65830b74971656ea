"""Evidence from devices: `POST /device/v1/reports`, idempotent by (execution, seq)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from contracts.ids import DeviceId, Wire
from contracts.states import State

MAX_REPORTS = 256


class _Report(Wire):
    execution: str  # the last execution's id goes on after CONFIRMED; "" before the first one
    fence: int = Field(ge=0)
    seq: int = Field(ge=1)  # dense from 1 per execution, durable in agent.db
    boot_id: str
    mono_ms: int
    utc: str  # ISO 8601, the device's clock
    bundle_digest: str  # what answers live frames now; "" before the first activation


class Transition(_Report):
    kind: Literal["transition"] = "transition"
    state: State
    code: str = ""  # error code when the state is a failure
    detail: str = ""
    local: bool = False  # a roll back that the device decided by itself after CONFIRMED


class Window(_Report):
    """Deltas since the last window of this execution. Latencies are the worker's compute time by wall clock.

    `latency` and `shadow_latency` hold processing.latency.BUCKETS counts (see there for the edges).
    """

    kind: Literal["window"] = "window"
    duration_s: float = Field(ge=0)
    frames: int = Field(ge=0)
    accepted_rows: int = Field(ge=0)
    refused: int = Field(ge=0)  # frames without an accepted row: busy arena, timeout, full outbox, broken link
    not_finite: int = Field(ge=0)
    latency: tuple[int, ...]
    cpu_us: int = Field(default=0, ge=0)  # the worker's CPU time in this window
    shadow_digest: str = ""
    pairs: int = Field(default=0, ge=0)  # frames that both answered
    agreed: int = Field(default=0, ge=0)
    shadow_latency: tuple[int, ...] = ()
    temperature_c: float | None = None
    memory_bytes: int | None = None  # the worker's resident set
    probation: bool = False


class Event(_Report):
    kind: Literal["event"] = "event"
    event: str
    code: str = ""
    detail: str = ""


Report = Annotated[Transition | Window | Event, Field(discriminator="kind")]


class Hello(Wire):
    """What a device says of itself; goes with each batch of reports."""

    agent_version: str
    profile: str
    running_digest: str
    ledger: dict[str, int] = {}  # stream -> accepted rows


class ReportBatch(Wire):
    device: DeviceId  # must equal the certificate's
    hello: Hello
    reports: tuple[Report, ...] = Field(max_length=MAX_REPORTS)


class ReportAnswer(Wire):
    """Highest contiguous seq per execution that the server has durably."""

    accepted: dict[str, int]
