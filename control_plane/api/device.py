"""`/device/v1`: what a device fetches and sends. The director's files are answered in api/poll.py."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from contracts.enrolment import BatchKey, EnrolmentAnswer
from contracts.errors import RejectedError, error
from contracts.ids import Wire
from contracts.reports import ReportAnswer, ReportBatch
from control_plane.adapters.image_repo import target_digest
from control_plane.api.asked import note
from control_plane.api.auth import device, plane
from control_plane.services.accept_reports import accept_reports
from control_plane.services.plane import Plane
from control_plane.services.renew_certificate import renew_certificate

router = APIRouter(prefix="/device/v1", tags=["devices"])

ThePlane = Annotated[Plane, Depends(plane)]
Device = Annotated[str, Depends(device)]


class Renewal(Wire):
    csr_pem: str
    batch_key: BatchKey


@router.post("/reports")
def reports(found: ThePlane, device_id: Device, batch: ReportBatch) -> ReportAnswer:
    """Durable when answered. The answer names the highest contiguous number of each execution in the batch."""
    try:
        return accept_reports(found.units, device_id, batch)
    except RejectedError as forged:
        found.refusals.note("report_refused", device_id, f"device:{device_id}", forged)
        raise


@router.post("/renewals", status_code=201)
def renew(found: ThePlane, device_id: Device, renewal: Renewal) -> EnrolmentAnswer:
    return renew_certificate(found.enrolment, device_id, renewal.csr_pem, renewal.batch_key)


@router.get("/image/{path:path}", response_class=Response)
def image(found: ThePlane, device_id: Device, path: str, if_none_match: Annotated[str, Header()] = "") -> Response:
    """Metadata of the image repository as skerry-signer published them; a bundle's manifest comes from the blob store."""
    digest = target_digest(path)
    if digest is not None:
        note(device_id, digest)
        return Response(found.blobs.read(digest), media_type="application/json", headers={"ETag": f'"{digest}"'})
    answer = found.image.metadata(path)
    if answer is None:
        raise error("API_NOT_FOUND", path[:120], "no such file in the image repository")
    etag = found.image.etag(answer)
    if if_none_match == etag:
        return Response(status_code=304, headers={"ETag": etag})
    return Response(answer, media_type="application/json", headers={"ETag": etag})
