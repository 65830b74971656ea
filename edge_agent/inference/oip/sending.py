"""HTTP/1.1 replies to a socket: small ones in one piece, large ones straight from the memory that they lie in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from http import HTTPStatus

from edge_agent.inference.oip.exchange import Buffer, Reply

LARGE_BYTES = 64 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


def send(transport: asyncio.Transport, fd: int, reply: Reply, with_body: bool, closes: bool) -> None:
    """`fd` is the transport's. The pieces are not looked at any more afterwards."""
    length = sum(len(piece) for piece in reply.pieces)
    head, pieces = _head(reply, length, closes), reply.pieces if with_body else ()
    if length >= LARGE_BYTES and transport.get_write_buffer_size() == 0:
        _send_large(transport, fd, head, pieces)
    else:
        transport.write(b"".join((head, *pieces)))


def _head(reply: Reply, length: int, closes: bool) -> bytes:
    lines = [_STATUS_LINES[reply.status], b"content-type: %s\r\ncontent-length: %d\r\n" % (reply.type, length)]
    lines += [b"%s: %s\r\n" % header for header in reply.headers]
    return b"".join((*lines, b"connection: close\r\n\r\n" if closes else b"\r\n"))


def _send_large(transport: asyncio.Transport, fd: int, head: bytes, pieces: Sequence[Buffer]) -> None:
    """The head by itself: it wakes the reader while the body is still being copied."""
    sent = _taken(fd, (head,))
    if sent == len(head):
        sent += _taken(fd, pieces)
    left = []
    for piece in (head, *pieces):
        left.append(memoryview(piece)[sent:])
        sent = max(sent - len(piece), 0)
    transport.write(b"".join(left))


def _taken(fd: int, buffers: Sequence[Buffer]) -> int:
    """How many bytes the kernel took. Whatever is wrong with the connection, the transport finds out by its own write."""
    try:
        return os.writev(fd, buffers) if buffers else 0
    except OSError:
        return 0
