"""A campaign: one release to many devices, wave by wave, each wave judged by how the model does on the devices.

`advance(now, campaign, fleet)` (advance.py) says what is to be done next, as decisions; `apply` gives the campaign after one of
them. Both are pure, so a scheduler is: read, decide, write if `revision` is still the one that was read. Two may run at once.

Rules:
- No device of wave n+1 is offered anything before wave n has PASSED.
- A device has at most one open execution, over all campaigns.
- A person may pause a campaign and let it go on: what was not activated is taken back, and offered anew by a new execution.
- A FAILED wave stops the campaign at once, and for good. Rolling back makes *new* executions, one for each exposed device, each to the
  bundle that this very device had confirmed before; a device that had none is left as it is, and a person is asked.
- Counts shown are counted from executions; none is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from contracts.ids import execution_id
from contracts.operator import CampaignState, GateView, WaveState
from contracts.states import TERMINAL, State
from control_plane.domain import execution as executions
from control_plane.domain import wave as waves
from control_plane.domain.agreement import Estimate
from control_plane.domain.execution import Execution
from control_plane.domain.wave import Wave

DEADLINE_GRACE_S = 30.0  # the device's own verdict on its deadline says more than ours: let it arrive first
# fmt: off
TRANSITIONS: dict[CampaignState, frozenset[CampaignState]] = {
    "RUNNING":      frozenset({"PAUSED", "SUCCEEDED", "ROLLING_BACK", "ABORTED"}),
    "PAUSED":       frozenset({"RUNNING", "ABORTED"}),
    "ROLLING_BACK": frozenset({"ROLLED_BACK", "PAUSED"}),
    "SUCCEEDED":    frozenset(),
    "ROLLED_BACK":  frozenset(),
    "ABORTED":      frozenset(),
}
# fmt: on


@dataclass(frozen=True)
class Bundle:
    """What a profile's devices get. `agreement`: incumbent's model version -> as measured at packaging."""

    digest: str
    agreement: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """What is known of a device apart from this campaign. `other`: its open execution in another campaign."""

    profile: str
    active: bool = True
    confirmed_digest: str = ""
    other: Literal["none", "replaceable", "busy"] = "none"


@dataclass(frozen=True)
class Fleet:
    devices: Mapping[str, Device]
    bundles: Mapping[str, Bundle]  # by profile
    models: Mapping[str, str] = field(default_factory=dict)  # bundle digest -> model version
    accuracies: Mapping[str, Estimate] = field(default_factory=dict)  # bundle digest -> accuracy on its own held-out set


@dataclass(frozen=True)
class Policy:
    shadow_pairs: int = 0
    wave_deadline_s: float = 3600
    state_deadline_s: Mapping[State, float] = field(default_factory=dict)  # counted from the offer
    on_failure: Literal["pause", "rollback"] = "rollback"


@dataclass(frozen=True)
class Campaign:
    id: str
    policy: Policy
    waves: tuple[Wave, ...]
    executions: tuple[Execution, ...] = ()
    state: CampaignState = "RUNNING"
    reason: str = ""  # why it is in this state
    revision: int = 0


# -- decisions


@dataclass(frozen=True)
class Queue:
    device: str
    wave: int
    kind: Literal["install", "rollback"]
    target_digest: str
    previous_digest: str
    activate: bool


@dataclass(frozen=True)
class Move:
    """The server's own move of an execution: OFFERED, TIMED_OUT, SUPERSEDED or CANCELED."""

    execution: str
    state: State
    code: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Activate:
    execution: str


@dataclass(frozen=True)
class Withdraw:
    """Take the order back: the device's next assignment names nothing, and its answer is awaited."""

    execution: str


@dataclass(frozen=True)
class EnterWave:
    number: int
    state: WaveState
    devices: tuple[str, ...] = ()
    until_utc: datetime | None = None


@dataclass(frozen=True)
class Prolong:
    """Move an open wave's deadline."""

    number: int
    deadline_utc: datetime


@dataclass(frozen=True)
class Judge:
    number: int
    verdicts: tuple[GateView, ...]


@dataclass(frozen=True)
class Enter:
    state: CampaignState
    reason: str = ""


Decision = Queue | Move | Activate | Withdraw | EnterWave | Prolong | Judge | Enter


# -- applying


def apply(campaign: Campaign, decision: Decision, now: datetime, next_fence: Callable[[], int]) -> Campaign:
    """The campaign after `decision`. ValueError where a table has no row for it, which is a bug."""
    match decision:
        case Queue():
            return replace(campaign, executions=(*campaign.executions, _queued(campaign, decision, next_fence())))
        case Move() | Activate() | Withdraw():
            changed = (_after(e, decision, now) if e.id == decision.execution else e for e in campaign.executions)
            return replace(campaign, executions=tuple(changed))
        case EnterWave() | Prolong() | Judge():
            changed_waves = (_wave_after(wave, decision) if wave.number == decision.number else wave for wave in campaign.waves)
            return replace(campaign, waves=tuple(changed_waves))
        case Enter():
            if decision.state not in TRANSITIONS[campaign.state]:
                raise ValueError(f"campaign {campaign.id} cannot go from {campaign.state} to {decision.state}")
            return replace(campaign, state=decision.state, reason=decision.reason)


def _after(execution: Execution, decision: Move | Activate | Withdraw, now: datetime) -> Execution:
    match decision:
        case Activate():
            return replace(execution, activate=True)
        case Withdraw():
            return replace(execution, withdrawn=True)
        case Move():
            changed = executions.moved(execution, decision.state, decision.code, decision.detail)
            return replace(changed, offered_utc=now) if decision.state is State.OFFERED else changed


def _wave_after(wave: Wave, decision: EnterWave | Prolong | Judge) -> Wave:
    if isinstance(decision, Judge):
        return replace(wave, verdicts=decision.verdicts)
    if isinstance(decision, Prolong):
        return replace(wave, deadline_utc=decision.deadline_utc)
    wave = waves.entered(wave, decision.state)
    if decision.state == "OPEN":
        return replace(wave, devices=decision.devices, deadline_utc=decision.until_utc)
    return replace(wave, soak_until_utc=decision.until_utc or wave.soak_until_utc)


def _queued(campaign: Campaign, order: Queue, fence: int) -> Execution:
    attempt = 1 + sum(execution.device == order.device for execution in campaign.executions)
    return Execution(
        id=execution_id(campaign.id, order.device, attempt), device=order.device, wave=order.wave, kind=order.kind,
        target_digest=order.target_digest, previous_digest=order.previous_digest, fence=fence, activate=order.activate,
    )  # fmt: skip


def deadline_of(execution: Execution, policy: Policy) -> datetime | None:
    limit_s = policy.state_deadline_s.get(execution.state)
    if execution.offered_utc is None or limit_s is None:
        return None
    return execution.offered_utc + timedelta(seconds=limit_s + DEADLINE_GRACE_S)


# -- reading


def open_executions(campaign: Campaign) -> list[Execution]:
    return [execution for execution in campaign.executions if execution.state not in TERMINAL]


def wave_installs(campaign: Campaign, number: int) -> tuple[Execution, ...]:
    """The installs of a wave: of each device the last one, unless that was taken back, for then the device is to be asked anew."""
    last = (execution for execution in last_installs(campaign) if execution.wave == number)
    return tuple(execution for execution in last if not execution.taken_back)


def last_installs(campaign: Campaign) -> list[Execution]:
    return list({execution.device: execution for execution in campaign.executions if execution.kind == "install"}.values())


def current_wave(campaign: Campaign) -> Wave | None:
    return next((wave for wave in campaign.waves if wave.state in waves.RUNNING), None)


def waits_for(campaign: Campaign) -> tuple[str, datetime | None]:
    """What a campaign that is not at its end waits for, and until when at most; ("", None) when it waits for nothing."""
    if campaign.state == "PAUSED":
        return f"a person: {campaign.reason}", None
    if campaign.state == "ROLLING_BACK":
        names = [e.device for e in open_executions(campaign) if e.kind == "rollback"]
        return f"roll back of {', '.join(names)}", None
    wave = current_wave(campaign) if campaign.state == "RUNNING" else None
    if wave is None:
        return "", None
    waiting = [f"{view.metric}: {view.reason}" for view in wave.verdicts if view.verdict == "waiting"]
    if not waiting and wave.state == "SOAKING":
        return f"wave {wave.number}: soak", wave.soak_until_utc
    return f"wave {wave.number}: " + "; ".join(waiting or ["its devices"]), wave.deadline_utc


def next_alarm(campaign: Campaign) -> datetime | None:
    """The earliest time at which something becomes due without a report."""
    times = [deadline_of(execution, campaign.policy) for execution in open_executions(campaign)]
    wave = current_wave(campaign) if campaign.state == "RUNNING" else None
    if wave:
        times.append(wave.deadline_utc)
        if wave.state == "SOAKING" and not any(view.verdict == "waiting" for view in wave.verdicts):  # else a report is waited for
            times.append(wave.soak_until_utc)
    return min((time for time in times if time is not None), default=None)
