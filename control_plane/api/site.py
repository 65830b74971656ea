"""`/v1/events`, `/v1/status`, `/v1/keys`: what happened, how it stands, what expires when."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from contracts.operator import EventView, KeyView
from control_plane.api.auth import plane
from control_plane.api.limits import MAX_NUMBER
from control_plane.services import site_status
from control_plane.services.events import MAX_LIMIT, MAX_WAIT_S
from control_plane.services.plane import Plane

router = APIRouter(prefix="/v1", tags=["site"])

ThePlane = Annotated[Plane, Depends(plane)]


@router.get("/events")
async def events(
    found: ThePlane,
    after: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0,
) -> list[EventView]:
    """The append-only log from `after` on, oldest first; waits up to `wait_s` for the first line."""
    return await found.feed.read(after, limit, wait_s)


@router.get("/status")
def status(found: ThePlane) -> dict[str, Any]:
    return site_status.status(found)


@router.get("/keys")
def keys(found: ThePlane) -> list[KeyView]:
    """Expiry of every role and certificate; what is overdue needs a person."""
    return site_status.keys(found)
