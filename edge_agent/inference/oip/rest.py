"""REST of the Open Inference Protocol: heads and bodies in, inferences, replies out. The other endpoints: rest_endpoints.py."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from contracts.errors import SkerryError, error
from edge_agent.inference.oip.exchange import OCTETS, Handler, Head, Reply, Send
from edge_agent.inference.oip.front import Front
from edge_agent.inference.oip.models import Model
from edge_agent.inference.oip.request import InferRequest
from edge_agent.inference.oip.rest_codec import json_object, parse, parse_raw, render
from edge_agent.inference.oip.rest_endpoints import Call, Endpoint, inference, parts_of, reply, route
from edge_agent.inference.oip.status import status_of, text_of

HEADER_LENGTH = b"inference-header-content-length"
MAX_SMALL_BODY_BYTES = 64 * 1024  # of all requests but inferences


class RestApp:
    """Implements `exchange.Application`."""

    def __init__(self, front: Front, local: bool) -> None:
        """`local`: this listener is the Unix socket."""
        self._front, self._local = front, local

    def begin(self, head: Head) -> Handler:
        """Raises RejectedError OIP_ENDPOINT, OIP_METHOD, OIP_REQUEST, OIP_ENCODING, OIP_TOO_LARGE."""
        parts = parts_of(head.path)
        name_version = inference(parts)
        handler = self._description(head, parts) if name_version is None else self._inference(head, *name_version)
        _check_body(head.headers, handler.max_body_bytes)
        return handler

    def refusal(self, refused: SkerryError) -> Reply:
        status = status_of(refused).http
        retry = ((b"retry-after", b"1"),) if status == 503 else ()
        closes = status in (408, 413, 415)  # the rest of the body is not waited for
        return reply({"error": text_of(refused), "code": refused.code}, status)._replace(headers=retry, closes=closes)

    def _inference(self, head: Head, name: str, version: str) -> Handler:
        if head.method != "POST":
            raise error("OIP_METHOD", head.method, "POST")
        return Handler(self._front.limits.max_request_bytes, partial(self._infer, name, version, _length(head.headers)))

    async def _infer(self, name: str, version: str, json_bytes: int | None, body: bytes, send: Send) -> None:
        """The answer is sent while its memory is still lent: a large tensor is copied once, to the kernel."""

        def read(model: Model) -> InferRequest:
            if json_bytes == 0:
                return parse_raw(body, model.input)
            model.input.check_json(len(body) if json_bytes is None else json_bytes)
            return parse(body, json_bytes)

        def write(model: Model, request_id: str, outputs: Any) -> None:
            pieces, json_length = render(model.name, model.version, request_id, outputs)
            if json_length is None:
                send(Reply(200, pieces))
            else:
                send(Reply(200, pieces, OCTETS, ((HEADER_LENGTH, b"%d" % json_length),)))

        await self._front.infer(name, version, read, write, self._local)

    def _description(self, head: Head, parts: tuple[str, ...]) -> Handler:
        methods, names = route(parts)
        endpoint = methods.get(head.method)
        if endpoint is None:
            raise error("OIP_METHOD", head.method, " or ".join(methods))
        return Handler(MAX_SMALL_BODY_BYTES, partial(self._describe, endpoint, names, head.method == "POST"))

    async def _describe(self, endpoint: Endpoint, names: tuple[str, ...], takes_body: bool, body: bytes, send: Send) -> None:
        message = json_object(body) if body and takes_body else {}
        send(await endpoint(Call(self._front, names, message, self._local)))


def _length(headers: Mapping[bytes, bytes]) -> int | None:
    """Raises RejectedError OIP_REQUEST."""
    value = headers.get(HEADER_LENGTH)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise error("OIP_REQUEST", "Inference-Header-Content-Length", "it is a number")
    return int(value)


def _check_body(headers: Mapping[bytes, bytes], limit_bytes: int) -> None:
    """Raises RejectedError OIP_TOO_LARGE, OIP_ENCODING."""
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        raise error("OIP_ENCODING", encoding.decode("latin-1")[:40])
    size = int(headers.get(b"content-length", b"0"))
    if size > limit_bytes:
        raise error("OIP_TOO_LARGE", f"{size} bytes", f"at most {limit_bytes}")
