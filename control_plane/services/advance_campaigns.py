"""Carry every campaign as far as it can go now. Idempotent, compare-and-set: two replicas may run it at once.

A pass over one campaign is one transaction: the campaign is read, decided on (domain/advance.py), written if nobody else
was first, and with it the desired state of the devices that were given orders. An OFFERED execution without its desired
row cannot be seen by anybody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from contracts.errors import RejectedError
from contracts.operator import CampaignRequest
from control_plane.domain.advance import advance, settle
from control_plane.domain.campaign import (
    Activate,
    Bundle,
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
    next_alarm,
)  # fmt: skip
from control_plane.domain.execution import BEFORE_ACTIVATING, Execution
from control_plane.services import orders, releases_catalogue
from control_plane.services.unit_of_work import UnitOfWork, Units
from control_plane.store import campaigns, counters, devices
from control_plane.store.base import Session
from control_plane.store.campaigns import CampaignRow, ExecutionRow
from program.log import Log

log = Log("campaigns")
ENDINGS = {"SUCCEEDED": "campaign_succeeded", "ROLLED_BACK": "campaign_rolled_back"}


def advance_campaigns(units: Units) -> datetime | None:
    """Advance all campaigns; the time at which something becomes due next by itself, None when nothing will."""
    with units.read() as session:
        due = [row.id for row in campaigns.to_tend(session)]
    for campaign in due:
        advance_campaign(units, campaign)
    with units.read() as session:
        return campaigns.next_alarm(session)


def advance_campaign(units: Units, campaign: str) -> None:
    """One pass over one campaign; takes the writer's place only when there is something to write."""
    with units.read() as session:
        if not _due(session, campaign, units.now()):
            return
    try:
        with units.write() as work:
            _advance(work, campaigns.must(work.session, campaign))
    except RejectedError as lost:
        if lost.code != "API_CONFLICT":
            raise
        log.debug("campaign_lost_race", campaign_id=campaign, detail=str(lost))  # the other one did it, or the next pass does


def _due(session: Session, campaign: str, now: datetime) -> bool:
    row = campaigns.must(session, campaign)
    found = campaigns.load(session, row)
    return bool(advance(now, found, _fleet(session, row, found)[0])) or next_alarm(found) != row.alarm_utc


def _advance(work: UnitOfWork, row: CampaignRow) -> None:
    before = campaigns.load(work.session, row)
    fleet, elsewhere = _fleet(work.session, row, before)
    after, steps = settle(work.now, before, fleet, lambda: _next_fence(work))
    alarm = next_alarm(after)
    if after == before and alarm == row.alarm_utc:
        return
    campaigns.save(work.session, before, after, alarm)
    request = CampaignRequest.model_validate(row.request)
    verdicts: dict[tuple[int, str], str] = {(wave.number, view.metric): view.verdict for wave in before.waves for view in wave.verdicts}
    for decision, then in steps:
        _carry_out(work, request, decision, then, elsewhere)
        _log(work, row, decision, then, verdicts)


def _next_fence(work: UnitOfWork) -> int:
    return counters.raised(work.session, counters.FENCE, at_least=int(work.now.timestamp()))


# -- what is known of the fleet


def _fleet(session: Session, row: CampaignRow, campaign: Campaign) -> tuple[Fleet, dict[str, ExecutionRow]]:
    """What the decisions need of the devices, and the open executions that other campaigns have on them."""
    elsewhere = {one.device: (one, number) for one, number in campaigns.open_elsewhere(session, row.id)}
    bundles = releases_catalogue.bundles(session, row.release)
    known = {profile: Bundle(one.digest, one.manifest.evaluation.expected_agreement) for profile, one in bundles.items()}
    names = {device for wave in campaign.waves for device in wave.devices}
    fleet, models = {}, {}
    for name in sorted(names):
        device = devices.must(session, name)
        confirmed = releases_catalogue.bundle(session, device.confirmed_digest) if device.confirmed_digest else None
        if confirmed:
            models[confirmed.digest] = confirmed.manifest.model_version
        other = _other(elsewhere[name], row.number) if name in elsewhere else "none"
        fleet[name] = Device(device.profile, device.state == devices.ACTIVE, confirmed.digest if confirmed else "", other)
    for execution in campaign.executions:
        previous = releases_catalogue.bundle(session, execution.previous_digest) if execution.previous_digest else None
        if previous:
            models[previous.digest] = previous.manifest.model_version
    return Fleet(fleet, known, models), {name: one for name, (one, _) in elsewhere.items()}


def _other(found: tuple[ExecutionRow, int], number: int) -> Literal["replaceable", "busy"]:
    """A newer campaign replaces an older one's order while the device has not begun to activate it; never the other way round."""
    execution, campaign_number = found
    return "replaceable" if campaign_number < number and campaigns.execution(execution).state in BEFORE_ACTIVATING else "busy"


# -- effects and events, in the same transaction


def _carry_out(work: UnitOfWork, request: CampaignRequest, decision: Decision, then: Campaign, elsewhere: dict[str, ExecutionRow]) -> None:
    match decision:
        case Queue() if decision.device in elsewhere:
            orders.supersede(work, elsewhere.pop(decision.device), then.id)
        case Move(state=orders.OFFERED):
            orders.offer(work, request, _execution(then, decision.execution))
        case Activate():
            orders.activate(work, _execution(then, decision.execution))
        case Withdraw():
            orders.withdraw(work, _execution(then, decision.execution))
        case _:
            pass


def _execution(campaign: Campaign, name: str) -> Execution:
    return next(one for one in campaign.executions if one.id == name)


def _log(work: UnitOfWork, row: CampaignRow, decision: Decision, then: Campaign, verdicts: dict[tuple[int, str], str]) -> None:
    match decision:
        case Queue():
            orders.log_move(work, then.executions[-1])
        case Move():
            orders.log_move(work, _execution(then, decision.execution))
        case Judge():
            for view in decision.verdicts:
                if verdicts.get((decision.number, view.metric)) != view.verdict:
                    verdicts[decision.number, view.metric] = view.verdict
                    work.event("gate_judged", then.id, wave=decision.number, **view.model_dump(mode="json"))
        case EnterWave():
            _log_wave(work, then.id, decision)
        case Enter():
            work.event("campaign_moved", then.id, state=decision.state, reason=decision.reason, release=row.release)
            if decision.state in ENDINGS:
                work.event(ENDINGS[decision.state], then.id, release=row.release)
        case Activate() | Withdraw():
            pass


def _log_wave(work: UnitOfWork, campaign: str, entered: EnterWave) -> None:
    work.event(
        "wave_moved", campaign, wave=entered.number, state=entered.state, devices=list(entered.devices),
        until_utc=entered.until_utc.isoformat() if entered.until_utc else None, code="CAMPAIGN_GATE" if entered.state == "FAILED" else "",
    )  # fmt: skip
