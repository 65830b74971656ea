"""`/v1/devices` and enrolment tokens for operators; the registry feed for services."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from contracts.operator import DeviceView, RegistryFeed, TokenRequest
from control_plane.api.auth import operator, plane, service
from control_plane.api.limits import MAX_NUMBER
from control_plane.services.device_views import all_devices, one_device, registry_feed
from control_plane.services.make_token import make_token
from control_plane.services.plane import Plane
from control_plane.services.revoke_device import revoke_device

router = APIRouter(prefix="/v1", tags=["devices"])
internal = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[Depends(service("ingest"))])

ThePlane = Annotated[Plane, Depends(plane)]
Actor = Annotated[str, Depends(operator)]


@router.post("/enrolment-tokens", status_code=201)
def new_token(found: ThePlane, actor: Actor, request: TokenRequest) -> dict[str, str]:
    """The token is shown once; only its sha256 is kept."""
    return {"token": str(make_token(found.units, found.ca_sha256, request, actor))}


@router.get("/devices")
def devices(found: ThePlane) -> list[DeviceView]:
    return all_devices(found.units, found.last_seen)


@router.get("/devices/{device_id}")
def device(found: ThePlane, device_id: str) -> DeviceView:
    return one_device(found.units, found.last_seen, device_id)


@router.post("/devices/{device_id}/approve")
def approve(found: ThePlane, actor: Actor, device_id: str) -> DeviceView:
    """Let a device in that enrolled with a token that is no pre-registration."""
    found.enrolment.approve(device_id, actor)
    return one_device(found.units, found.last_seen, device_id)


@router.post("/devices/{device_id}/revoke")
def revoke(found: ThePlane, actor: Actor, device_id: str) -> DeviceView:
    """Decommission: its certificates are refused from the next request on. There is no way back; it may enrol anew."""
    revoke_device(found.units, device_id, actor)
    return one_device(found.units, found.last_seen, device_id)


@internal.get("/devices")
def feed(found: ThePlane, since: Annotated[int, Query(ge=-1, le=MAX_NUMBER)] = -1) -> RegistryFeed:
    return registry_feed(found.units, since)
