"""`/enrol/v1`: server TLS and a one-time token. The only listener that talks to machines without a certificate."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from contracts.enrolment import EnrolmentAnswer, EnrolmentPending, EnrolmentRequest
from control_plane.api.auth import plane
from control_plane.services.plane import Plane

router = APIRouter(prefix="/enrol/v1", tags=["enrolment"])

ThePlane = Annotated[Plane, Depends(plane)]


@router.post(
    "/requests", status_code=201, response_model=None, responses={201: {"model": EnrolmentAnswer}, 202: {"model": EnrolmentPending}}
)
def enrol(found: ThePlane, request: EnrolmentRequest, response: Response) -> EnrolmentAnswer | EnrolmentPending:
    """201 with certificate and pins, or 202: a person must approve."""
    return _answered(found.enrolment.request(request), response, 201)


@router.get("/requests/{request_id}", response_model=None, responses={200: {"model": EnrolmentAnswer}, 202: {"model": EnrolmentPending}})
def answer(found: ThePlane, request_id: str, response: Response) -> EnrolmentAnswer | EnrolmentPending:
    return _answered(found.enrolment.answer(request_id), response, 200)


def _answered(answer: EnrolmentAnswer | EnrolmentPending, response: Response, granted: int) -> EnrolmentAnswer | EnrolmentPending:
    response.status_code = 202 if isinstance(answer, EnrolmentPending) else granted
    return answer
