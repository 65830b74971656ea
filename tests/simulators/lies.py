"""How a server can lie in HTTP, as data: name -> what it does with an honest body. Laid over the simulated cloud by `Cloud.lie`.

Each lie writes the answer itself. None of them needs a key: what is signed is another matter (tests of TUF and of bundles).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

Lie = Callable[[BaseHTTPRequestHandler, bytes], None]
LATE_S, DRIP_S = 1.0, 0.2  # more than the tests' agents wait
ENDLESS_PIECE = b"{" * 8192


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)  # a slow server is slow by the clock


def _head(handler: BaseHTTPRequestHandler, length: int, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.close_connection = True


def late(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    _wait(LATE_S)
    _head(handler, len(body))
    handler.wfile.write(body)


def drip(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """A byte now and then: no read times out."""
    _head(handler, len(body))
    for byte in body:
        handler.wfile.write(bytes([byte]))
        _wait(DRIP_S)


def cut(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    _head(handler, len(body))
    handler.wfile.write(body[: len(body) // 2])


def claims_more(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Content-Length names bytes that never come, and the connection stays open."""
    _head(handler, len(body) + 10)
    handler.wfile.write(body)
    handler.wfile.flush()
    _wait(LATE_S)


def claims_less(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """The rest of the body would be read as the next answer by who keeps the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) // 2))
    handler.end_headers()
    handler.wfile.write(body)


def error_page(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    page = b"<html><body><h1>Please log in to the guest network</h1></body></html>"
    _head(handler, len(page), Content_Type="text/html")
    handler.wfile.write(page)


def elsewhere(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    _head(handler, 0, 302, Location="https://localhost:1/" + handler.path)


def endless(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.close_connection = True
    while True:  # until the client hangs up
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(ENDLESS_PIECE), ENDLESS_PIECE))


def no_http(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.wfile.write(b"\x00\xff SSH-2.0-OpenSSH\r\n\r\n")
    handler.close_connection = True


LIES: dict[str, Lie] = {
    "late": late, "drip": drip, "cut": cut, "claims more": claims_more, "claims less": claims_less,
    "error page": error_page, "elsewhere": elsewhere, "endless": endless, "no http": no_http,
}  # fmt: skip
