"""One HTTP/1.1 connection of the REST front, on httptools' parser: requests are read whole and answered one after the other.

What a caller may take is limited here: a place, time, the bytes of a head and of a body. Silent callers, heads without end and callers that
do not read their answers would use up the front's descriptors and memory, and with them its gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from functools import lru_cache, partial
from typing import cast
from urllib.parse import unquote

import httptools

from contracts.errors import SkerryError, error
from edge_agent.inference.oip import sending
from edge_agent.inference.oip.exchange import Application, Handler, Head, Reply

MAX_CONNECTIONS = 160  # of one listener: four of them, the regions and the seats stay below 1024, the descriptors that a process may have
MAX_HEAD_BYTES = 64 * 1024
KEEP_ALIVE_S = 75
READ_BYTES = 1024 * 1024  # at once
SOON_S = 0.001
MAX_REMEMBERED_BYTES = 256


class Listener:
    """What the connections of one listener share."""

    buffer = memoryview(bytearray(READ_BYTES))  # of all: what was read is parsed before anything else is

    def __init__(self, application: Application, limit_s: float) -> None:
        """`limit_s`: for a head, from its first byte, for a body, and for an answer to be taken."""
        self.application, self.limit_s = application, limit_s
        self.connections: set[Connection] = set()
        self._empty = asyncio.Event()

    def connect(self) -> Connection:
        return Connection(self)

    def leave(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    async def close(self, grace_s: float) -> None:
        """Requests that are being answered have this long."""
        for connection in tuple(self.connections):
            connection.end()
        if self.connections:
            self._empty.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace_s)
        for connection in tuple(self.connections):
            connection.abort()


class _Request:
    """From its first byte to its answer."""

    handler: Handler  # once its head has come, unless it was refused
    refused: SkerryError | None = None
    begun = headed = whole = False  # what of it has come
    keep_alive = True
    with_body = True  # of its answer
    awaits_continue = answered = False

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.body: list[bytes] = []
        self.body_bytes = 0


class Connection(asyncio.BufferedProtocol):
    """Closed with a code when it is one too many or what comes is no request, without one when its time is over."""

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle
    _stuck: asyncio.TimerHandle | None = None  # while an answer waits for its reader
    _coming: _Request  # the last of them, which may be whole
    _answering: _Request | None = None
    _task: asyncio.Task[None] | None = None
    _paused = False
    _ending = False
    _head_bytes = 0  # of the head that is coming

    def __init__(self, listener: Listener) -> None:
        self._listener, self._loop = listener, asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._coming = _Request()
        self._waiting: deque[_Request] = deque()  # behind the one that is being answered

    # -- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self._fd = transport.get_extra_info("socket").fileno()
        self._listener.connections.add(self)
        self._allow(self._listener.limit_s)
        self._timer = self._loop.call_later(self._listener.limit_s, self._look_at_time)
        if len(self._listener.connections) > MAX_CONNECTIONS:
            self._refuse(error("OIP_CONNECTIONS", f"{MAX_CONNECTIONS} of this listener"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        request = self._coming
        self._parse(self._listener.buffer[:nbytes])
        if request is self._coming and not request.headed:
            self._head_bytes += nbytes
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(error("OIP_TOO_LARGE", "the head", f"more than {MAX_HEAD_BYTES} bytes"))

    def pause_writing(self) -> None:
        self._stuck = self._loop.call_later(self._listener.limit_s, self._transport.abort)

    def resume_writing(self) -> None:
        self._reader_is_back()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Who hung up takes the request along."""
        self._listener.leave(self)
        self._timer.cancel()
        self._reader_is_back()
        if self._task is not None:
            self._task.cancel()

    def end(self) -> None:
        """After what is being answered."""
        self._ending = True
        if self._answering is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # -- the parser

    def on_message_begin(self) -> None:
        if self._coming.begun:
            self._coming, self._head_bytes = _Request(), 0
        self._coming.begun = True
        self._allow(self._listener.limit_s)

    def on_url(self, url: bytes) -> None:
        self._coming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._coming.headed:  # else it comes behind the body
            self._coming.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        request = self._coming
        request.headed = True
        self._allow(self._listener.limit_s)
        request.keep_alive = self._parser.get_http_version() != "1.0" and self._parser.should_keep_alive()
        try:
            request.handler = self._begin(request, self._parser.get_method().decode("ascii"))
        except SkerryError as refused:  # at once; what comes of its body is dropped
            self._came(request, refused)
            return
        request.awaits_continue = request.headers.get(b"expect", b"").lower() == b"100-continue"
        self._continue()

    def on_body(self, body: bytes) -> None:
        request = self._coming
        if request.refused is None:
            request.body.append(body)
            request.body_bytes += len(body)
            if request.body_bytes > request.handler.max_body_bytes:
                self._came(request, error("OIP_TOO_LARGE", f"{request.body_bytes} bytes", f"at most {request.handler.max_body_bytes}"))

    def on_message_complete(self) -> None:
        request = self._coming
        request.whole = True
        self._allow(math.inf)
        if request.refused is None:
            self._came(request)

    def _parse(self, data: memoryview) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offered:  # to another protocol, which we do not take
                data = data[offered.args[0] :]
            except httptools.HttpParserCallbackError as ours:
                raise ours.__context__ or ours from None
            except httptools.HttpParserError:
                self._refuse(_no_request())
                return
            else:
                return

    # -- requests, in their order

    def _came(self, request: _Request, refused: SkerryError | None = None) -> None:
        request.refused = refused
        self._waiting.append(request)
        if self._answering is None:
            self._go_on()
        else:
            self._pause()

    def _begin(self, request: _Request, method: str) -> Handler:
        request.with_body = method != "HEAD"
        try:
            path = _path(request.url)
        except (ValueError, httptools.HttpParserInvalidURLError):
            request.keep_alive = False
            raise _no_request() from None
        return self._listener.application.begin(Head(method, path, request.headers))

    def _refuse(self, refused: SkerryError) -> None:
        """All that may still come."""
        request = _Request()
        request.keep_alive = False
        self._came(request, refused)
        self._pause()

    def _go_on(self) -> None:
        """With the oldest request that waits, unless an answer waits for its reader."""
        while self._answering is None and self._stuck is None and not self._transport.is_closing():
            if not self._waiting:
                self._rest()
                return
            request = self._answering = self._waiting.popleft()
            if request.refused is None:
                self._task = self._loop.create_task(self._answer(request))
            else:
                self._send(request, self._listener.application.refusal(request.refused))
                self._answering = None

    async def _answer(self, request: _Request) -> None:
        body = request.body[0] if len(request.body) == 1 else b"".join(request.body)
        request.body = []
        try:
            await request.handler.answer(body, partial(self._send, request))
        except SkerryError as refused:
            self._send(request, self._listener.application.refusal(refused))
        except MemoryError:
            self._send(request, self._listener.application.refusal(error("OIP_MEMORY")))
        except Exception:
            self._send(request, self._listener.application.refusal(error("OIP_BUG")))
            raise
        finally:
            self._answering = self._task = None
            self._go_on()

    def _send(self, request: _Request, reply: Reply) -> None:
        if request.answered or self._transport.is_closing():
            return
        request.answered = True
        closes = reply.closes or self._ending or not request.keep_alive
        sending.send(self._transport, self._fd, reply, request.with_body, closes)
        if closes:
            self._transport.close()

    def _rest(self) -> None:
        """All that came is answered."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if self._coming.whole:
            self._allow(KEEP_ALIVE_S)
        self._continue()

    def _continue(self) -> None:
        """Tell a caller who waits for it to send its body."""
        request = self._coming
        if request.awaits_continue and self._answering is None:
            request.awaits_continue = False
            self._transport.write(sending.CONTINUE)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    # -- time

    def _allow(self, seconds: float) -> None:
        """From now on, for what is awaited of the caller."""
        self._due_s = self._loop.time() + seconds

    def _look_at_time(self) -> None:
        """One timer for all that may take too long: a timer for each of them would be what a small request waits for."""
        if self._due_s <= self._loop.time():
            self._too_late()
        left_s = max(self._due_s - self._loop.time(), SOON_S)
        self._timer = self._loop.call_later(min(left_s, self._listener.limit_s), self._look_at_time)

    def _too_late(self) -> None:
        request = self._coming
        self._allow(math.inf)
        if request.whole or not request.headed or request.refused is not None:
            self._transport.close()
        else:
            request.keep_alive = False
            self._came(request, error("OIP_SLOW_BODY", "", f"{self._listener.limit_s:g} s"))

    def _reader_is_back(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


def _path(url: bytes) -> str:
    """Raises ValueError, HttpParserInvalidURLError."""
    return _remembered_path(url) if len(url) <= MAX_REMEMBERED_BYTES else _remembered_path.__wrapped__(url)


@lru_cache(64)
def _remembered_path(url: bytes) -> str:
    """A caller mostly asks for the same again."""
    path = httptools.parse_url(url).path.decode("ascii")
    return unquote(path) if "%" in path else path


def _no_request() -> SkerryError:
    return error("OIP_REQUEST", "", "this is no HTTP request")
