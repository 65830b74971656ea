"""Campaigns as operators see them: read from the rows, counted from the executions."""

from __future__ import annotations

from contracts.operator import CampaignView, ExecutionView, GateView, WaveView
from control_plane.domain.campaign import Campaign, waits_for
from control_plane.domain.execution import Execution
from control_plane.domain.wave import Wave
from control_plane.services.unit_of_work import Units
from control_plane.store import campaigns
from control_plane.store.base import Session
from control_plane.store.campaigns import CampaignRow


def all_campaigns(units: Units) -> list[CampaignView]:
    with units.read() as session:
        return [_view(session, row) for row in campaigns.listed(session)]


def one_campaign(units: Units, campaign: str) -> CampaignView:
    """Raises CAMPAIGN_UNKNOWN."""
    with units.read() as session:
        return _view(session, campaigns.must(session, campaign))


def _view(session: Session, row: CampaignRow) -> CampaignView:
    campaign = campaigns.load(session, row)
    what, until = waits_for(campaign)
    return CampaignView(
        id=row.id, name=row.name, release=row.release, state=row.state, revision=row.revision, waits_for=what,
        waits_until_utc=until.isoformat() if until else None, waves=tuple(_wave(campaign, wave) for wave in campaign.waves),
    )  # fmt: skip


def _wave(campaign: Campaign, wave: Wave) -> WaveView:
    reason = "the wave is not open"
    unjudged = tuple(GateView(metric=gate.metric, limit=gate.limit, verdict="waiting", reason=reason) for gate in wave.gates)
    mine = tuple(_execution(one) for one in campaign.executions if one.wave == wave.number)
    return WaveView(number=wave.number, state=wave.state, gates=wave.verdicts or unjudged, executions=mine)


def _execution(one: Execution) -> ExecutionView:
    return ExecutionView(
        id=one.id, device=one.device, kind=one.kind, state=one.state, fence=one.fence, target_digest=one.target_digest,
        previous_digest=one.previous_digest, code=one.code, detail=one.detail,
    )  # fmt: skip
