"""`/internal/v1/alarms`: what services refused, into the operators' log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from contracts.operator import ServiceAlarms
from control_plane.api.auth import plane, service
from control_plane.services.accept_alarms import accept_alarms
from control_plane.services.plane import Plane

router = APIRouter(prefix="/internal/v1", tags=["internal"])


@router.post("/alarms", status_code=204)
def alarms(found: Annotated[Plane, Depends(plane)], peer: Annotated[str, Depends(service("ingest", "build"))], told: ServiceAlarms) -> None:
    """A line `service_alarm` each; `actor` is the service that tells it."""
    accept_alarms(found.units, peer, told)
