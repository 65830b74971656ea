"""Evidence from devices: `POST /device/v1/reports`, idempotent by (execution, seq)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from contracts.ids import DeviceId, Wire
from contracts.states import State

MAX_REPORTS = 256
HISTOGRAM_BUCKETS = 64  # processing.latency.BUCKETS; a test holds the two together
MAX_COUNT = 2**53  # what JSON's readers agree on; no table of ours holds more than 2**63

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Word = Annotated[str, StringConstraints(max_length=200)]
Text = Annotated[str, StringConstraints(max_length=4000)]


Finite = Annotated[float, Field(allow_inf_nan=False)]
Shift = tuple[Count, Finite, Annotated[Finite, Field(ge=0)]]


class _Report(Wire):
    execution: Word  # the last execution's id goes on after CONFIRMED; "" before the first one
    fence: Count
    seq: int = Field(ge=1, le=MAX_COUNT)  # dense from 1 per execution, durable in agent.db
    boot_id: Word
    mono_ms: Count
    utc: Word  # ISO 8601, the device's clock
    bundle_digest: Word  # what answers live frames now; "" before the first activation


class Transition(_Report):
    kind: Literal["transition"] = "transition"
    state: State
    code: Word = ""  # error code when the state is a failure
    detail: Text = ""
    local: bool = False  # a roll back that the device decided by itself after CONFIRMED


class Window(_Report):
    """Deltas since the last window of this execution. Latencies are the worker's compute time by wall clock.

    `latency` and `shadow_latency` hold processing.latency.BUCKETS counts (see there for the edges).
    """

    kind: Literal["window"] = "window"
    duration_s: float = Field(ge=0)
    frames: Count
    accepted_rows: Count
    refused: Count  # frames without an answer or a row that was accepted: busy arena, timeout, full outbox, broken link
    window_rows_refused: Count = 0  # rows of feature windows, by a full queue or outbox; they are no frames
    not_finite: Count
    latency: tuple[Count, ...]
    cpu_us: Count = 0  # the worker's CPU time in this window
    shadow_digest: Word = ""
    pairs: Count = 0  # frames that the incumbent answered, and the candidate too or failed by its own fault: then they do not agree
    agreed: Count = 0
    shadow_latency: tuple[Count, ...] = ()
    score_shift: Shift = (0, 0.0, 0.0)  # n, mean, m2 of the candidate's score minus the incumbent's, where both gave one
    temperature_c: float | None = None
    memory_bytes: Count | None = None  # the worker's resident set
    probation: bool = False

    @model_validator(mode="after")
    def _adds_up(self) -> Window:
        if self.agreed > self.pairs:
            raise ValueError(f"{self.agreed} of {self.pairs} pairs agreed")
        for name in ("latency", "shadow_latency"):
            if len(getattr(self, name)) not in (0, HISTOGRAM_BUCKETS):
                raise ValueError(f"{name} has {len(getattr(self, name))} buckets, not {HISTOGRAM_BUCKETS}")
        return self


class Event(_Report):
    kind: Literal["event"] = "event"
    event: Word
    code: Word = ""
    detail: Text = ""


Report = Annotated[Transition | Window | Event, Field(discriminator="kind")]


class Hello(Wire):
    """What a device says of itself; goes with each batch of reports."""

    agent_version: Word
    profile: Word
    running_digest: Word
    ledger: dict[Word, Count] = Field(default={}, max_length=256)  # stream -> accepted rows


class ReportBatch(Wire):
    device: DeviceId  # must equal the certificate's
    hello: Hello
    reports: tuple[Report, ...] = Field(max_length=MAX_REPORTS)


class ReportAnswer(Wire):
    """Highest contiguous seq per execution that the server has durably."""

    accepted: dict[str, int]
