"""`/v1/releases`: what was built, who approved it, whether it is signed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from contracts.errors import TransientError, TrustError
from contracts.operator import ReleaseView
from contracts.release import Approval
from control_plane.api.auth import operator, plane
from control_plane.services import releases as cases
from control_plane.services.plane import Plane

router = APIRouter(prefix="/v1/releases", tags=["releases"])

ThePlane = Annotated[Plane, Depends(plane)]


@router.get("")
def all_releases(found: ThePlane) -> list[ReleaseView]:
    """Newest first."""
    with found.units.read() as session:
        return cases.all_releases(session)


@router.get("/{release_id}")
def one_release(found: ThePlane, release_id: str) -> ReleaseView:
    with found.units.read() as session:
        return cases.one_release(session, release_id)


@router.post("/{release_id}/approval")
def approve(found: ThePlane, actor: Annotated[str, Depends(operator)], release_id: str, approval: Approval) -> ReleaseView:
    """Store a release manager's signature and have the release signed. When the signer is away, the answer is the APPROVED
    release with what it waits for; it is signed as soon as the signer is back.
    """
    part = found.models
    try:
        cases.approve(found.units, part.approvers, release_id, approval, actor)
    except TrustError as forged:
        found.refusals.note("approval_refused", release_id, actor, forged)
        raise
    try:
        return cases.sign(found.units, part.signer, found.blobs, release_id)
    except TransientError:
        with found.units.read() as session:
            return cases.one_release(session, release_id)
