"""`/v1/campaigns`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from contracts.operator import CampaignRequest, CampaignView
from control_plane.api.auth import operator, plane
from control_plane.services.abort_campaign import abort_campaign
from control_plane.services.advance_campaigns import advance_campaign
from control_plane.services.campaign_views import all_campaigns, one_campaign
from control_plane.services.create_campaign import create_campaign
from control_plane.services.plane import Plane

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])

ThePlane = Annotated[Plane, Depends(plane)]
Actor = Annotated[str, Depends(operator)]


@router.post("", status_code=201)
def create(found: ThePlane, actor: Actor, request: CampaignRequest) -> CampaignView:
    campaign = create_campaign(found.units, request, actor)
    advance_campaign(found.units, campaign)
    return one_campaign(found.units, campaign)


@router.get("")
def campaigns(found: ThePlane) -> list[CampaignView]:
    return all_campaigns(found.units)


@router.get("/{campaign_id}")
def campaign(found: ThePlane, campaign_id: str) -> CampaignView:
    return one_campaign(found.units, campaign_id)


@router.post("/{campaign_id}/abort")
def abort(found: ThePlane, actor: Actor, campaign_id: str) -> CampaignView:
    abort_campaign(found.units, campaign_id, actor)
    return one_campaign(found.units, campaign_id)
