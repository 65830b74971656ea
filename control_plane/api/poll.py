"""A device's poll, in front of the framework: `GET /device/v1/director/<file>`.

Nearly every request of a fleet is this one and nearly every answer is 304, so it is plain ASGI and a 304 comes from memory: no
routing, no thread, no database. The certificate selects the device. The poll is the heartbeat.
"""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.errors import SkerryError, error
from control_plane.adapters.director import DirectorFiles, root
from control_plane.api.auth import peer_of
from control_plane.api.problems import problem
from control_plane.services.plane import Plane

PREFIX = "/device/v1/director/"
TIMESTAMP = "timestamp.json"


class DevicePoll:
    """ASGI: answers the director's files, hands everything else on to `app`."""

    def __init__(self, app: ASGIApp, plane: Plane) -> None:
        self._app, self._plane = app, plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        except SkerryError as refused:
            await problem(refused)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        plane, peer, name = self._plane, peer_of(scope), scope["path"][len(PREFIX) :]
        plane.registry.require_active(peer)
        plane.last_seen.note(peer.id)
        known = _if_none_match(scope) if name == TIMESTAMP else b""
        files = plane.desired.cached(peer.id)
        if files is None or known != files.etag:  # another replica may have gone on
            files = await asyncio.to_thread(plane.desired.prepare, peer.id)
        if known == files.etag:
            await _not_modified(files, send)
            return
        content = files.files.get(name) or root(plane.config.director_dir, name)
        if content is None:
            raise error("API_NOT_FOUND", name[:80], "no such file of the director")
        headers = {"etag": files.etag.decode()} if name == TIMESTAMP else {}
        await Response(content, headers=headers, media_type="application/json")(scope, receive, send)


def _if_none_match(scope: Scope) -> bytes:
    return next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")


async def _not_modified(files: DirectorFiles, send: Send) -> None:
    await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", files.etag)]})
    await send({"type": "http.response.body", "body": b""})
