"""PURE: what the picture shows, as values. Times are seconds since 1970 UTC; a digest is a bundle's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from contracts.operator import CampaignState, GateView, WaveState

MarkKind = Literal["killed", "refused", "fault"]


@dataclass(frozen=True)
class Answers:
    """How many answers of one bundle fell into one bin of time."""

    at_s: float
    digest: str
    count: int


@dataclass(frozen=True)
class Phase:
    """A device's execution in one state: a new bundle beside, or in place of, the one that runs."""

    state: str
    kind: str  # install, rollback
    digest: str
    from_s: float
    to_s: float


@dataclass(frozen=True)
class Device:
    id: str
    name: str  # agent-1, where the supervisor has such a program; else the beginning of the id
    answers: tuple[Answers, ...]
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class Stretch:
    """A wave in one state."""

    wave: int
    state: WaveState
    from_s: float
    to_s: float


@dataclass(frozen=True)
class JudgedGate:
    wave: int
    gate: GateView


@dataclass(frozen=True)
class Campaign:
    id: str
    name: str
    release: str
    state: CampaignState
    stretches: tuple[Stretch, ...]
    gates: tuple[JudgedGate, ...]
    rolled_back: tuple[float, float] | None = None  # from the verdict until every device is back


@dataclass(frozen=True)
class Mark:
    """Something went wrong, or was made to: at one moment, to one device ("" for the cloud)."""

    at_s: float
    kind: MarkKind
    text: str
    device: str = ""
    times: int = 1
    meaning: str = ""  # of an error code

    @property
    def words(self) -> str:
        return self.text + (f" ×{self.times}" if self.times > 1 else "")

    @property
    def in_full(self) -> str:
        return f"{self.words}: {self.meaning}" if self.meaning else self.words


@dataclass(frozen=True)
class Away:
    """A program of the cloud did not serve."""

    program: str
    from_s: float
    to_s: float
    killed: bool = False

    @property
    def words(self) -> str:
        return f"{self.program} {'killed, back in' if self.killed else 'away'} {duration(self.to_s - self.from_s)}"


@dataclass(frozen=True)
class Rows:
    """Rows per bin: `accepted` by the time when a device made them durable, `committed` by the time of the lake's commit."""

    accepted: tuple[tuple[float, int], ...]
    committed: tuple[tuple[float, int], ...]
    quarantined: int = 0
    shed: int = 0


@dataclass(frozen=True)
class Facts:
    began_s: float
    ended_s: float
    bin_s: float
    versions: Mapping[str, str]  # digest -> model version as v2, in the order of building
    releases: Mapping[str, str]  # release -> the same
    devices: tuple[Device, ...]
    campaigns: tuple[Campaign, ...]
    marks: tuple[Mark, ...]
    away: tuple[Away, ...]
    rows: Rows


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


def seconds(utc: str) -> float:
    """Of an ISO 8601 time with its offset."""
    return datetime.fromisoformat(utc).timestamp()
