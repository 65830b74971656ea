"""What comes on one HTTP/1.1 connection, cut into requests by httptools: heads judged at once, bodies kept until they are whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote

import httptools

from contracts.errors import SkerryError, error
from edge_agent.inference.oip.exchange import Application, Handler, Head

MAX_HEAD_BYTES = 64 * 1024
MAX_AT_ONCE = 1000  # requests in one read: no client sends so many ahead
MAX_REMEMBERED_BYTES = 256
MAX_PIECES = 1024  # of a body, as they came; what comes behind them is kept in one
_UPGRADED = b"POST / HTTP/1.1\r\n%s: %s\r\n\r\n"


class Request:
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
        self.head_bytes = self.body_bytes = 0
        self.pieces: list[bytes | bytearray] = []

    @property
    def framing(self) -> tuple[bytes, ...]:
        """Name and value of the header that says where the body ends; () without a body."""
        for name in (b"transfer-encoding", b"content-length"):
            if self.headers.get(name, b"0") != b"0":
                return name, self.headers[name]
        return ()

    def count_head(self, size: int) -> None:
        """Raises RejectedError OIP_TOO_LARGE."""
        self.head_bytes += size
        if self.head_bytes > MAX_HEAD_BYTES:
            raise error("OIP_TOO_LARGE", "the head", f"more than {MAX_HEAD_BYTES} bytes")

    def add(self, piece: bytes) -> None:
        self.body_bytes += len(piece)
        if len(self.pieces) < MAX_PIECES:
            self.pieces.append(piece)
        elif isinstance(self.pieces[-1], bytearray):
            self.pieces[-1] += piece
        else:
            self.pieces.append(bytearray(piece))

    def take_body(self) -> bytes:
        """Once: it is kept for nobody else."""
        pieces, self.pieces = self.pieces, []
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)


class Incoming:
    """`came` is called with each request that is whole, and with one that is refused as soon as it is; of its body nothing is kept then."""

    def __init__(self, application: Application, came: Callable[[Request], None]) -> None:
        self.request = Request()  # the last that has begun
        self._application, self._came = application, came
        self._parser = httptools.HttpRequestParser(self)
        self._dry_bytes = self._at_once = 0  # read without getting on: of a head, or of what stands between and behind pieces of a body
        self._got_on = self._muted = False

    @property
    def stage(self) -> tuple[Request, bool, bool]:
        return self.request, self.request.headed, self.request.whole

    def feed(self, data: memoryview) -> None:
        """Raises RejectedError OIP_REQUEST, OIP_TOO_LARGE, after which nothing of this connection can be read."""
        request, self._at_once, self._got_on = self.request, 0, False
        self._parse(data)
        if request is self.request and not request.whole and not self._got_on:
            self._dry_bytes += len(data)
            if self._dry_bytes > MAX_HEAD_BYTES:
                raise error("OIP_TOO_LARGE", "the head", f"more than {MAX_HEAD_BYTES} bytes, or so many without a body's")

    def _parse(self, data: memoryview) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offered:  # to another protocol, which we do not take
                data = data[offered.args[0] :]
                if not self.request.whole:
                    self._read_body()
            except httptools.HttpParserCallbackError as ours:
                raise ours.__context__ or ours from None
            except httptools.HttpParserError:
                raise _no_request() from None
            else:
                return

    def _read_body(self) -> None:
        """The parser takes an offer to be the end of HTTP. It is told of a request with the same body, which is the one that we have."""
        self._muted = True
        self._parser.feed_data(_UPGRADED % self.request.framing)
        self._muted = False

    # -- the parser's calls

    def on_message_begin(self) -> None:
        if self._muted:
            return
        self._at_once += 1
        if self._at_once > MAX_AT_ONCE:
            raise error("OIP_TOO_LARGE", "requests behind each other", f"more than {MAX_AT_ONCE}")
        if self.request.begun:
            self.request, self._dry_bytes = Request(), 0
        self.request.begun = True

    def on_url(self, url: bytes) -> None:
        if not self._muted:
            self.request.count_head(len(url))
            self.request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.request.headed:  # else it comes behind the body
            self.request.count_head(len(name) + len(value) + 4)
            self.request.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._muted:
            return
        request, version = self.request, self._parser.get_http_version()
        request.headed = True
        request.keep_alive = version != "1.0" and self._parser.should_keep_alive()
        try:
            request.handler = self._begin(request, self._parser.get_method().decode("ascii"))
        except SkerryError as refused:
            self.refuse(refused)
        else:
            request.awaits_continue = version != "1.0" and request.headers.get(b"expect", b"").lower() == b"100-continue"

    def on_body(self, body: bytes) -> None:
        request, self._got_on = self.request, True
        if request.refused is None:
            request.add(body)
            if request.body_bytes > request.handler.max_body_bytes:
                self.refuse(error("OIP_TOO_LARGE", f"{request.body_bytes} bytes", f"at most {request.handler.max_body_bytes}"))

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade() and self.request.framing:
            return  # its body comes
        self.request.whole = True
        if self.request.refused is None:
            self._came(self.request)

    # -- inside

    def refuse(self, refused: SkerryError) -> None:
        """The request that is coming."""
        self.request.refused, self.request.pieces = refused, []
        self._came(self.request)

    def _begin(self, request: Request, method: str) -> Handler:
        request.with_body = method != "HEAD"
        try:
            path = _path(request.url)
        except (ValueError, httptools.HttpParserInvalidURLError):
            request.keep_alive = False
            raise _no_request() from None
        return self._application.begin(Head(method, path, request.headers))


def _path(url: bytes) -> str:
    """Raises ValueError, HttpParserInvalidURLError."""
    return _remembered_path(url) if len(url) <= MAX_REMEMBERED_BYTES else _remembered_path.__wrapped__(url)


@lru_cache(64)
def _remembered_path(url: bytes) -> str:
    """A caller mostly asks for the same again."""
    path = (httptools.parse_url(url).path or b"/").decode("ascii")
    return unquote(path) if "%" in path else path


def _no_request() -> SkerryError:
    return error("OIP_REQUEST", "", "this is no HTTP request")
