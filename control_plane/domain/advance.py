"""What is due in a campaign now. Pure: time, the campaign and what is known of the fleet go in, decisions come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from contracts.operator import CampaignState, GateView
from contracts.states import State
from control_plane.domain.agreement import Expected, expected
from control_plane.domain.campaign import (
    Activate,
    Campaign,
    Decision,
    Device,
    Enter,
    EnterWave,
    Fleet,
    Judge,
    Move,
    Queue,
    Withdraw,
    apply,
    deadline_of,
    last_installs,
    open_executions,
    wave_installs,
)
from control_plane.domain.execution import BEFORE_ACTIVATING, Execution
from control_plane.domain.gates import SHADOW_METRICS, Judged, judge
from control_plane.domain.wave import Wave

MAX_STEPS = 10_000


def advance(now: datetime, campaign: Campaign, fleet: Fleet) -> list[Decision]:
    """The next decisions, none when there is nothing to do; applying them may make new ones due."""
    ended = [*_overdue(now, campaign)] or [*_left(campaign, fleet)]
    return ended or list(_BY_STATE[campaign.state](now, campaign, fleet))


def settle(
    now: datetime, campaign: Campaign, fleet: Fleet, next_fence: Callable[[], int], first: Sequence[Decision] = ()
) -> tuple[Campaign, list[tuple[Decision, Campaign]]]:
    """Advance until nothing is due: the campaign then, and each decision with the campaign right after it.

    `first`: what a person decided, which comes before all that follows from it.
    """
    steps: list[tuple[Decision, Campaign]] = []
    decisions = list(first) or advance(now, campaign, fleet)
    while decisions:
        for decision in decisions:
            campaign = apply(campaign, decision, now, next_fence)
            steps.append((decision, campaign))
        if len(steps) > MAX_STEPS + 10 * sum(len(wave.devices) for wave in campaign.waves):
            raise RuntimeError(f"campaign {campaign.id} does not settle")
        decisions = advance(now, campaign, fleet)
    return campaign, steps


def _overdue(now: datetime, campaign: Campaign) -> Iterator[Decision]:
    for execution in open_executions(campaign):
        deadline = deadline_of(execution, campaign.policy)
        if deadline and now >= deadline:
            yield Move(execution.id, State.TIMED_OUT, "ASSIGNMENT_DEADLINE", f"in {execution.state.value}")


def _left(campaign: Campaign, fleet: Fleet) -> Iterator[Decision]:
    """Nobody answers any more for a device that has left the fleet."""
    for execution in open_executions(campaign):
        device = fleet.devices.get(execution.device)
        if device is None or not device.active:
            ended = State.CANCELED if execution.state is State.QUEUED else State.SUPERSEDED
            yield Move(execution.id, ended, detail="the device has left the fleet")


def _running(now: datetime, campaign: Campaign, fleet: Fleet) -> Iterator[Decision]:
    wave = next((wave for wave in campaign.waves if wave.state != "PASSED"), None)
    if wave is None:
        yield Enter("SUCCEEDED")
    elif wave.state == "PENDING":
        devices = tuple(device for device in wave.devices if device in fleet.devices and fleet.devices[device].active)
        yield EnterWave(wave.number, "OPEN", devices, now + timedelta(seconds=campaign.policy.wave_deadline_s))
    else:
        yield from _run_wave(now, campaign, wave, fleet)


def _run_wave(now: datetime, campaign: Campaign, wave: Wave, fleet: Fleet) -> Iterator[Decision]:
    verdicts = judged(now, campaign, wave, fleet)
    if verdicts != wave.verdicts:
        yield Judge(wave.number, verdicts)
    failed = [view for view in verdicts if view.verdict == "failed"]
    if failed and not _whole_verdict_awaited(failed, verdicts):
        yield EnterWave(wave.number, "FAILED")
        yield _after_failure(campaign, wave, failed)
        return
    yield from _give_orders(campaign, wave, fleet)
    yield from _activate(campaign, wave, verdicts)
    installs = wave_installs(campaign, wave.number)
    over = wave.deadline_utc is not None and now >= wave.deadline_utc  # from then on nobody is waited for
    done = (over or len(installs) == len(wave.devices)) and all(not execution.open for execution in installs)
    if done and wave.state == "OPEN":
        yield EnterWave(wave.number, "SOAKING", until_utc=now + timedelta(seconds=wave.soak_s))
    elif wave.state == "SOAKING" and wave.soak_until_utc and now >= wave.soak_until_utc and all(v.verdict != "waiting" for v in verdicts):
        yield EnterWave(wave.number, "PASSED")
    elif over:
        for execution in installs:
            if execution.open and execution.state is not State.QUEUED:
                yield Move(execution.id, State.TIMED_OUT, "ASSIGNMENT_DEADLINE", "the wave's deadline")


def judged(now: datetime, campaign: Campaign, wave: Wave, fleet: Fleet) -> tuple[GateView, ...]:
    """The verdicts on a wave's gates at `now`."""
    installs = wave_installs(campaign, wave.number)
    final = wave.deadline_utc is not None and now >= wave.deadline_utc and not any(e.open and e.state is not State.QUEUED for e in installs)
    agreements = {e.device: found for e in installs if (found := _expected_agreement(e, fleet)) is not None}
    seen = Judged(wave.devices, installs, campaign.policy.shadow_pairs, agreements, final)
    return tuple(judge(gate, seen) for gate in wave.gates)


def _whole_verdict_awaited(failed: Sequence[GateView], verdicts: Sequence[GateView]) -> bool:
    """A failed shadow gate can wait for the others: while one of them has no verdict nothing is activated, and a campaign that is
    stopped shall name all that was wrong. The wave's deadline ends the waiting.
    """
    only_shadow = all(view.metric in SHADOW_METRICS for view in failed)
    return only_shadow and any(view.verdict == "waiting" for view in verdicts if view.metric in SHADOW_METRICS)


def _expected_agreement(execution: Execution, fleet: Fleet) -> Expected | None:
    bundle = next((bundle for bundle in fleet.bundles.values() if bundle.digest == execution.target_digest), None)
    measured = bundle.agreement.get(fleet.models.get(execution.previous_digest, "")) if bundle else None
    return expected(measured, fleet.accuracies.get(execution.previous_digest)) if measured else None


def _give_orders(campaign: Campaign, wave: Wave, fleet: Fleet) -> Iterator[Decision]:
    standing = {execution.device: execution for execution in wave_installs(campaign, wave.number)}
    earlier = {execution.device: execution for execution in last_installs(campaign)}  # taken back, where it does not stand
    for name in wave.devices:
        device = fleet.devices.get(name)
        if name in standing:
            if standing[name].state is State.QUEUED:
                yield Move(standing[name].id, State.OFFERED)
        elif device and device.active and device.other != "busy" and device.profile in fleet.bundles:
            yield from _queue(campaign, wave, name, device, fleet.bundles[device.profile].digest, earlier.get(name))


def _queue(campaign: Campaign, wave: Wave, name: str, device: Device, digest: str, earlier: Execution | None) -> Iterator[Decision]:
    if earlier and earlier.open:
        yield Move(earlier.id, State.SUPERSEDED, detail="asked anew")
    previous = earlier.previous_digest if earlier else device.confirmed_digest  # what ran before this campaign touched the device
    direct = campaign.policy.shadow_pairs == 0 or not previous  # nothing to run beside
    yield Queue(name, wave.number, "install", digest, previous, direct)


def _activate(campaign: Campaign, wave: Wave, verdicts: tuple[GateView, ...]) -> Iterator[Decision]:
    if any(view.verdict == "waiting" for view in verdicts if view.metric in SHADOW_METRICS):
        return
    for execution in wave_installs(campaign, wave.number):
        shadowed = execution.state is State.SHADOWING and execution.evidence.pairs >= campaign.policy.shadow_pairs
        if shadowed and not execution.activate:
            yield Activate(execution.id)


def _after_failure(campaign: Campaign, wave: Wave, failed: list[GateView]) -> Decision:
    seen = "; ".join(f"{view.metric} {'' if view.value is None else f'{view.value:.4g} '}{view.reason}".strip() for view in failed)
    return Enter("ROLLING_BACK" if campaign.policy.on_failure == "rollback" else "PAUSED", f"wave {wave.number}: {seen}")


def _rolling_back(_now: datetime, campaign: Campaign, fleet: Fleet) -> Iterator[Decision]:
    returned = {execution.device: execution for execution in campaign.executions if execution.kind == "rollback"}
    for install in last_installs(campaign):
        if install.device not in returned:
            yield from _send_back(install, fleet)
    for execution in returned.values():
        if execution.state is State.QUEUED:
            yield Move(execution.id, State.OFFERED)
    pending = [e for e in last_installs(campaign) if e.device not in returned and _to_return(e, fleet)]
    if not pending and not any(execution.open for execution in returned.values()):
        yield _returned(campaign, fleet, returned)


def _send_back(install: Execution, fleet: Fleet) -> Iterator[Decision]:
    if install.state is State.QUEUED:
        yield Move(install.id, State.CANCELED)
    elif _to_return(install, fleet):
        if install.open:
            yield Move(install.id, State.SUPERSEDED, detail="the wave failed")
        yield Queue(install.device, install.wave, "rollback", install.previous_digest, install.previous_digest, activate=True)
    elif install.state in BEFORE_ACTIVATING and not install.withdrawn:
        yield Withdraw(install.id)


def _exposed(install: Execution) -> bool:
    """May the device run the new bundle, now or later?"""
    return install.state is State.CONFIRMED or install.state is State.TIMED_OUT or (install.open and install.state is not State.QUEUED)


def _to_return(install: Execution, fleet: Fleet) -> bool:
    device = fleet.devices.get(install.device)
    somewhere = bool(install.previous_digest) and install.previous_digest != install.target_digest
    return _exposed(install) and somewhere and device is not None and device.active and device.other == "none"


def _returned(campaign: Campaign, fleet: Fleet, returned: Mapping[str, Execution]) -> Decision:
    here = {name for name, device in fleet.devices.items() if device.active}
    stuck = [e.device for e in returned.values() if e.state is not State.CONFIRMED and e.device in here]
    without = [e.device for e in last_installs(campaign) if _exposed(e) and not e.withdrawn and not e.previous_digest and e.device in here]
    if stuck:
        return Enter("PAUSED", f"{campaign.reason}; not rolled back: {', '.join(stuck)}")
    if without:
        return Enter("PAUSED", f"{campaign.reason}; no previous bundle to roll back to: {', '.join(without)}")
    return Enter("ROLLED_BACK", campaign.reason)


def _stopped(_now: datetime, campaign: Campaign, _fleet: Fleet) -> Iterator[Decision]:
    """PAUSED, ABORTED: nothing new is begun; what has not been activated is taken back, what has been is left to finish."""
    for execution in open_executions(campaign):
        if execution.state is State.QUEUED:
            yield Move(execution.id, State.CANCELED)
        elif execution.kind == "install" and execution.state in BEFORE_ACTIVATING and not execution.withdrawn:
            yield Withdraw(execution.id)


def _ended(_now: datetime, _campaign: Campaign, _fleet: Fleet) -> Iterator[Decision]:
    return iter(())


_BY_STATE: dict[CampaignState, Callable[[datetime, Campaign, Fleet], Iterator[Decision]]] = {
    "RUNNING": _running, "PAUSED": _stopped, "ROLLING_BACK": _rolling_back,
    "ABORTED": _stopped, "SUCCEEDED": _ended, "ROLLED_BACK": _ended,
}  # fmt: skip
