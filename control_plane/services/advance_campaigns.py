"""Carry every campaign as far as it can go now. Idempotent, compare-and-set: two replicas may run it at once.

A pass over one campaign is one transaction: the campaign is read, decided on (domain/advance.py), written if nobody else
was first, and with it the desired state of the devices that were given orders. An OFFERED execution without its desired
row cannot be seen by anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from contracts.errors import RejectedError
from contracts.manifest import Evaluation, Manifest
from contracts.operator import CampaignRequest
from control_plane.domain.advance import advance, settle
from control_plane.domain.agreement import Estimate
from control_plane.domain.campaign import (
    Activate,
    Bundle,
    Campaign,
    Decision,
    Device,
    Fleet,
    Move,
    Queue,
    Withdraw,
    next_alarm,
)  # fmt: skip
from control_plane.domain.execution import BEFORE_ACTIVATING, Execution
from control_plane.services import orders, releases_catalogue
from control_plane.services.campaign_log import CampaignLog
from control_plane.services.unit_of_work import SYSTEM, UnitOfWork, Units
from control_plane.store import campaigns, counters, devices
from control_plane.store.base import Session
from control_plane.store.campaigns import CampaignRow, ExecutionRow
from program.log import Log

log = Log("campaigns")


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
            carry_on(work, campaigns.must(work.session, campaign))
    except RejectedError as lost:
        if lost.code != "API_CONFLICT":
            raise
        log.debug("campaign_lost_race", campaign_id=campaign, detail=str(lost))  # the other one did it, or the next pass does


def _due(session: Session, campaign: str, now: datetime) -> bool:
    row = campaigns.must(session, campaign)
    found = campaigns.load(session, row)
    return bool(advance(now, found, _fleet(session, row, found)[0])) or next_alarm(found) != row.alarm_utc


def carry_on(work: UnitOfWork, row: CampaignRow, decided: Sequence[Decision] = (), actor: str = SYSTEM) -> None:
    """Write what `actor` decided, and all that is due. Raises API_CONFLICT when another scheduler was first."""
    before = campaigns.load(work.session, row)
    fleet, elsewhere = _fleet(work.session, row, before)
    after, steps = settle(work.now, before, fleet, lambda: _next_fence(work), decided)
    alarm = next_alarm(after)
    if after == before and alarm == row.alarm_utc:
        return
    campaigns.save(work.session, before, after, alarm)
    request = CampaignRequest.model_validate(row.request)
    history = CampaignLog(work, before, row.release)
    for number, (decision, then) in enumerate(steps):
        _carry_out(work, request, decision, then, elsewhere)
        history.write(decision, then, actor if number < len(decided) else SYSTEM)


def _next_fence(work: UnitOfWork) -> int:
    return counters.raised(work.session, counters.FENCE, at_least=int(work.now.timestamp()))


# -- what is known of the fleet


def _fleet(session: Session, row: CampaignRow, campaign: Campaign) -> tuple[Fleet, dict[str, ExecutionRow]]:
    """What the decisions need of the devices, and the open executions that other campaigns have on them."""
    elsewhere = {one.device: (one, number) for one, number in campaigns.open_elsewhere(session, row.id)}
    bundles = releases_catalogue.bundles(session, row.release)
    known = {profile: Bundle(one.digest, _agreement(one.manifest.evaluation)) for profile, one in bundles.items()}
    names = {device for wave in campaign.waves for device in wave.devices}
    fleet, manifests = {}, _manifests(session, (execution.previous_digest for execution in campaign.executions))
    for name in sorted(names):
        device = devices.must(session, name)
        confirmed = _manifests(session, (device.confirmed_digest,))
        manifests |= confirmed
        other = _other(elsewhere[name], row.number) if name in elsewhere else "none"
        fleet[name] = Device(device.profile, device.state == devices.ACTIVE, next(iter(confirmed), ""), other)
    models = {digest: manifest.model_version for digest, manifest in manifests.items()}
    accuracies = {digest: Estimate(one.evaluation.accuracy, one.evaluation.samples) for digest, one in manifests.items()}
    return Fleet(fleet, known, models, accuracies), {name: one for name, (one, _) in elsewhere.items()}


def _agreement(measured: Evaluation) -> dict[str, Estimate]:
    return {incumbent: Estimate(share, measured.samples) for incumbent, share in measured.expected_agreement.items()}


def _manifests(session: Session, digests: Iterable[str]) -> dict[str, Manifest]:
    """Of those that were signed here."""
    found = {digest: releases_catalogue.bundle(session, digest) for digest in set(digests) if digest}
    return {digest: one.manifest for digest, one in found.items() if one is not None}


def _other(found: tuple[ExecutionRow, int], number: int) -> Literal["replaceable", "busy"]:
    """A newer campaign replaces an older one's order while the device has not begun to activate it; never the other way round."""
    execution, campaign_number = found
    return "replaceable" if campaign_number < number and campaigns.execution(execution).state in BEFORE_ACTIVATING else "busy"


# -- effects, in the same transaction


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
