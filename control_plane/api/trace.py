"""`/v1/trace/{bundle_digest}`: from a bundle back to the data it was trained on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from contracts.operator import Trace
from control_plane.api.auth import plane
from control_plane.services.plane import Plane

router = APIRouter(prefix="/v1/trace", tags=["trace"])


@router.get("/{bundle_digest}")
def trace(found: Annotated[Plane, Depends(plane)], bundle_digest: str) -> Trace:
    """`complete` is false when any hop is missing or says something else; the hop's detail tells which and why."""
    return found.models.tracing.trace(bundle_digest)
