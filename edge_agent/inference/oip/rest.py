"""REST of the Open Inference Protocol as a raw ASGI application: bodies in, inferences, replies out. The rest: rest_endpoints.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from contracts.errors import SkerryError, error
from edge_agent.inference.oip.front import Front
from edge_agent.inference.oip.models import Model
from edge_agent.inference.oip.patience import Gone, Patience, while_connected
from edge_agent.inference.oip.request import InferRequest
from edge_agent.inference.oip.rest_codec import Body, json_object, parse, parse_raw, render
from edge_agent.inference.oip.rest_endpoints import OCTETS, Call, Reply, inference, parts_of, reply, route
from edge_agent.inference.oip.status import status_of, text_of

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = dict[bytes, bytes]

HEADER_LENGTH = b"inference-header-content-length"
MAX_SMALL_BODY_BYTES = 64 * 1024  # of all requests but inferences


class RestApp:
    def __init__(self, front: Front, local: bool) -> None:
        """`local`: this listener is the Unix socket."""
        self._front, self._local = front, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise AssertionError(f"{scope['type']} is switched off")
        try:
            answer = await self._reply(scope, receive)
        except SkerryError as refused:
            answer = refusal(refused)
        except MemoryError:
            answer = refusal(error("OIP_MEMORY"))
        except Gone:
            return
        await _send(send, answer)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        parts = parts_of(scope["path"])
        name_version = inference(parts)
        if name_version is None:
            return await self._describe(scope, receive, parts)
        if scope["method"] != "POST":
            raise error("OIP_METHOD", scope["method"], "POST")
        return await self._infer(dict(scope["headers"]), receive, *name_version)

    async def _infer(self, headers: Headers, receive: Receive, name: str, version: str) -> Reply:
        json_bytes = _length(headers)
        body = await _body(headers, receive, self._front.limits.max_request_bytes, self._front.limits.body_s)

        def read(model: Model) -> InferRequest:
            if json_bytes == 0:
                return parse_raw(body, model.input)
            model.input.check_json(len(body) if json_bytes is None else json_bytes)
            return parse(body, json_bytes)

        def write(model: Model, request_id: str, outputs: Any) -> Body:
            return render(model.name, model.version, request_id, outputs)

        done = await while_connected(receive, self._front.infer(name, version, read, write, self._local))
        if done.json_bytes is None:
            return Reply(200, done.data)
        return Reply(200, done.data, OCTETS, ((HEADER_LENGTH, str(done.json_bytes).encode()),))

    async def _describe(self, scope: Scope, receive: Receive, parts: tuple[str, ...]) -> Reply:
        methods, names = route(parts)
        call = methods.get(scope["method"])
        if call is None:
            raise error("OIP_METHOD", scope["method"], " or ".join(methods))
        limits = self._front.limits
        body = await _body(dict(scope["headers"]), receive, MAX_SMALL_BODY_BYTES, limits.body_s) if scope["method"] == "POST" else b""
        return await call(Call(self._front, names, json_object(body) if body else {}, self._local))


# -- bodies


def _length(headers: Headers) -> int | None:
    """Raises RejectedError OIP_REQUEST."""
    value = headers.get(HEADER_LENGTH)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise error("OIP_REQUEST", "Inference-Header-Content-Length", "it is a number")
    return int(value)


async def _body(headers: Headers, receive: Receive, limit_bytes: int, limit_s: float) -> bytes:
    """Raises RejectedError OIP_TOO_LARGE, OIP_ENCODING, TransientError OIP_SLOW_BODY, Gone."""
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise error("OIP_ENCODING", headers[b"content-encoding"].decode("latin-1")[:40])
    _check_size(int(headers.get(b"content-length", b"0")), limit_bytes)
    pieces = _Pieces(limit_bytes)
    with Patience(limit_s):
        while pieces.take(await receive()):
            continue
    return pieces.joined()


class _Pieces:
    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes, self._size = limit_bytes, 0
        self._pieces: list[bytes] = []

    def take(self, message: Mapping[str, Any]) -> bool:
        """Whether more will come. Raises RejectedError OIP_TOO_LARGE, Gone."""
        if message["type"] == "http.disconnect":
            raise Gone
        piece: bytes = message.get("body", b"")
        self._size += len(piece)
        _check_size(self._size, self._limit_bytes)
        self._pieces.append(piece)
        return bool(message.get("more_body", False))

    def joined(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


def _check_size(size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise error("OIP_TOO_LARGE", f"{size} bytes", f"at most {limit_bytes}")


# -- replies


def refusal(refused: SkerryError) -> Reply:
    status = status_of(refused).http
    retry = ((b"retry-after", b"1"),) if status == 503 else ()
    closed = ((b"connection", b"close"),) if status in (408, 413, 415) else ()  # the rest of the body is not waited for
    return reply({"error": text_of(refused), "code": refused.code}, status, (*retry, *closed))


async def _send(send: Send, answer: Reply) -> None:
    headers = [(b"content-type", answer.type), (b"content-length", str(len(answer.body)).encode()), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
