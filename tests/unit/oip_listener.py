"""A listener of the REST front on a Unix socket in the test's own process, and what is said to it and by it."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from edge_agent.inference.oip.connection import Listener
from edge_agent.inference.oip.exchange import Application

WAIT_S = 10.0
LIMIT_BYTES = 1000
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"
CLOSE = b"Connection: close\r\n"

Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(head: bytes, body: bytes = b"") -> bytes:
    return head + (b"Content-Length: %d\r\n\r\n" % len(body) if body else b"\r\n") + body


class Place:
    """A listener on a Unix socket."""

    def __init__(self, path: Path, listener: Listener) -> None:
        self.path, self.listener = str(path), listener

    async def connected(self) -> Connected:
        return await asyncio.open_unix_connection(self.path)

    async def told(self, *sent: bytes) -> bytes:
        """All that is answered to these pieces, each sent when the one before was taken; the last request closes."""
        reader, writer = await self.connected()
        for piece in sent:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def listening(folder: Path, application: Application, limit_s: float = WAIT_S) -> AsyncIterator[Place]:
    path, listener = folder / "s", Listener(application, limit_s)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        server = await asyncio.get_running_loop().create_unix_server(listener.connect, sock=bound)
        try:
            yield Place(path, listener)
        finally:
            server.close()
            await listener.close(WAIT_S)


def run(scenario: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(scenario, WAIT_S)

    return uvloop.run(bounded())


def codes(answers: bytes) -> list[tuple[int, str]]:
    """(status, code) of each; the code is "" where there is none."""
    found = []
    for answer in answers.split(b"HTTP/1.1 ")[1:]:
        said = re.search(rb'"code":"(\w+)"', answer)
        found.append((int(answer[:3]), said[1].decode() if said else ""))
    return found


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110  the simulator says it to nobody
        await asyncio.sleep(0)


def chunked(*pieces: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
