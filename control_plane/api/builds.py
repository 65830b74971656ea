"""`/internal/v1` for skerry-build (jobs and results) and skerry-ingest (feature schemas)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from contracts.features import FeatureSchema
from contracts.release import BuildJob, BuildResult
from control_plane.api.auth import plane, service
from control_plane.services import builds, releases_catalogue
from control_plane.services.plane import Plane

router = APIRouter(prefix="/internal/v1", tags=["internal"])

ThePlane = Annotated[Plane, Depends(plane)]
Builder = Annotated[str, Depends(service("build"))]


@router.get("/builds/next", response_model=None, responses={200: {"model": BuildJob}, 204: {"description": "nothing to build"}})
def next_build(found: ThePlane, builder: Builder) -> BuildJob | Response:
    return builds.next_job(found.units, builder, found.models.build_lease_s) or Response(status_code=204)


@router.post("/builds/{job_id}/result", status_code=204)
def build_result(found: ThePlane, builder: Builder, job_id: str, result: BuildResult) -> None:
    builds.take_result(found.units, found.blobs, builder, job_id, result)


@router.get("/schemas/{schema_id}")
def feature_schema(found: ThePlane, _peer: Annotated[str, Depends(service("ingest", "build"))], schema_id: str) -> FeatureSchema:
    """A schema that came with a signed release."""
    with found.units.read() as session:
        return releases_catalogue.feature_schema(session, schema_id)
