"""Body limits, before anything is parsed. Blobs have their own limit, since they stream to disk."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import SkerryError, error
from control_plane.api.problems import problem

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_NUMBER = 2**53  # of a query: what every reader of JSON agrees on, and what the database holds
STREAMED = ("/v1/blobs/", "/internal/v1/blobs/")


class BodyLimit:
    """ASGI: a body larger than MAX_BODY_BYTES is refused with API_TOO_LARGE."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(STREAMED):
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        try:
            _within(int(declared) if declared.isdigit() else MAX_BODY_BYTES + 1, scope)
            await self._app(scope, _Counted(receive, scope), send)
        except SkerryError as refused:
            if refused.code != "API_TOO_LARGE":
                raise
            await problem(refused)(scope, receive, send)


class _Counted:
    """`receive` that counts: a chunked body declares nothing."""

    def __init__(self, receive: Receive, scope: Scope) -> None:
        self._receive, self._scope, self._seen = receive, scope, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        _within(self._seen, self._scope)
        return message


def _within(length: int, scope: Scope) -> None:
    if length > MAX_BODY_BYTES:
        raise error("API_TOO_LARGE", scope["path"][:120], f"more than {MAX_BODY_BYTES} bytes")
