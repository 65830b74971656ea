"""`/v1/campaigns`. A campaign's ETag is its revision, which each report and each decision raises."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from contracts.operator import CampaignRequest, CampaignView
from control_plane.api.auth import operator, plane
from control_plane.api.revisions import if_match, put_etag
from control_plane.domain.steering import Act
from control_plane.services.advance_campaigns import advance_campaign
from control_plane.services.campaign_views import all_campaigns, one_campaign
from control_plane.services.create_campaign import create_campaign
from control_plane.services.plane import Plane
from control_plane.services.steer_campaign import steer_campaign

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])

ThePlane = Annotated[Plane, Depends(plane)]
Actor = Annotated[str, Depends(operator)]
IfMatch = Annotated[int | None, Depends(if_match)]


@router.post("", status_code=201)
def create(found: ThePlane, actor: Actor, request: CampaignRequest, response: Response) -> CampaignView:
    campaign = create_campaign(found.units, request, actor)
    advance_campaign(found.units, campaign)
    return _shown(found, campaign, response)


@router.get("")
def campaigns(found: ThePlane) -> list[CampaignView]:
    return all_campaigns(found.units)


@router.get("/{campaign_id}")
def campaign(found: ThePlane, campaign_id: str, response: Response) -> CampaignView:
    return _shown(found, campaign_id, response)


@router.post("/{campaign_id}/pause")
def pause(found: ThePlane, actor: Actor, campaign_id: str, revision: IfMatch, response: Response) -> CampaignView:
    """Begin nothing new; take back what no device has activated yet."""
    return _steered(found, actor, campaign_id, "pause", revision, response)


@router.post("/{campaign_id}/resume")
def resume(found: ThePlane, actor: Actor, campaign_id: str, revision: IfMatch, response: Response) -> CampaignView:
    """Go on where a person paused it; the open wave has its whole time again."""
    return _steered(found, actor, campaign_id, "resume", revision, response)


@router.post("/{campaign_id}/abort")
def abort(found: ThePlane, actor: Actor, campaign_id: str, revision: IfMatch, response: Response) -> CampaignView:
    """Like pause, and for good."""
    return _steered(found, actor, campaign_id, "abort", revision, response)


def _steered(found: Plane, actor: str, campaign_id: str, act: Act, revision: int | None, response: Response) -> CampaignView:
    steer_campaign(found.units, campaign_id, act, actor, revision)
    return _shown(found, campaign_id, response)


def _shown(found: Plane, campaign_id: str, response: Response) -> CampaignView:
    view = one_campaign(found.units, campaign_id)
    put_etag(response, view.revision)
    return view
