"""Blobs by sha256: put by operators and the builder, read by them and by devices (Range: a download is taken up where it broke)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.responses import StreamingResponse

from control_plane.api.asked import noted
from control_plane.api.auth import plane, service
from control_plane.services.plane import Plane

operators = APIRouter(prefix="/v1/blobs", tags=["blobs"])
internal = APIRouter(prefix="/internal/v1/blobs", tags=["internal"], dependencies=[Depends(service("build"))])
devices = APIRouter(prefix="/device/v1/blobs", tags=["devices"], dependencies=[Depends(noted)])

ThePlane = Annotated[Plane, Depends(plane)]
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_BYTES: dict[str, Any] = {"content": {"application/octet-stream": {}}}


@operators.put("/{sha256}", status_code=201, responses={200: {"description": "it was there already"}})
@internal.put("/{sha256}", status_code=201, responses={200: {"description": "it was there already"}})
async def put_blob(found: ThePlane, request: Request, sha256: str) -> Response:
    """The body's bytes, whose sha256 must be the one in the path."""
    new = await found.blobs.receive(sha256, request.stream())
    return Response(status_code=201 if new else 200)


@operators.get("/{sha256}", response_class=Response, responses={200: _BYTES, 206: _BYTES})
@internal.get("/{sha256}", response_class=Response, responses={200: _BYTES, 206: _BYTES})
@devices.get("/{sha256}", response_class=Response, responses={200: _BYTES, 206: _BYTES})
def get_blob(found: ThePlane, sha256: str, range_: Annotated[str, Header(alias="range")] = "") -> Response:
    """All bytes, or from `Range: bytes=<first>-[<last>]`; any other range is answered with all of it, as HTTP allows."""
    size = found.blobs.size(sha256)
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{sha256}"', "Cache-Control": "public, max-age=31536000, immutable"}
    wanted = _RANGE.fullmatch(range_.strip())
    if not wanted:
        return _answer(found, sha256, 0, size, 200, headers)
    first, last = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
    if first > last:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    return _answer(found, sha256, first, last - first + 1, 206, {**headers, "Content-Range": f"bytes {first}-{last}/{size}"})


@operators.head("/{sha256}")
@internal.head("/{sha256}")
@devices.head("/{sha256}")
def head_blob(found: ThePlane, sha256: str) -> Response:
    return Response(headers={"Content-Length": str(found.blobs.size(sha256)), "Accept-Ranges": "bytes", "ETag": f'"{sha256}"'})


def _answer(found: Plane, sha256: str, first: int, length: int, status: int, headers: dict[str, str]) -> Response:
    pieces = found.blobs.stream(sha256, first, length)
    headers = {**headers, "Content-Length": str(length)}
    return StreamingResponse(pieces, status, headers, media_type="application/octet-stream")
