"""A client of the operators' API for the story: HTTP/1.1 on asyncio streams, and the event log as a feed to wait on.

Loopback and plain HTTP by design of that listener; one connection per request, so that a control plane that was killed
in the meantime costs one refused request and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from contracts.errors import CODES, SkerryError, TransientError, error
from contracts.operator import EventView
from program.clock import Clock

LONG_POLL_S = 10
RETRY_S = 0.2
_BROKEN = (OSError, asyncio.IncompleteReadError, ValueError)


@dataclass(frozen=True)
class OperatorsApi:
    port: int
    token: str
    host: str = "127.0.0.1"

    async def get(self, path: str) -> Any:
        return await self.request("GET", path)

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. Raises TransientError API_UNREACHABLE, or the problem's own code."""
        try:
            status, data = await self._exchange(method, path, b"" if body is None else json.dumps(body).encode())
            answer = json.loads(data) if data else None
        except _BROKEN as broken:
            raise error("API_UNREACHABLE", f"{method} {path}", repr(broken)) from broken
        if status >= 400:
            raise _problem(method, path, status, answer)
        return answer

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.token}\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            status = int((await reader.readline()).split()[1])
            length = 0
            while (line := (await reader.readline()).strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            return status, await reader.readexactly(length)
        except IndexError as closed:
            raise ConnectionResetError("closed before an answer") from closed
        finally:
            writer.close()


def _problem(method: str, path: str, status: int, answer: Any) -> SkerryError:
    problem = answer if isinstance(answer, dict) else {}
    code = problem.get("code", "")
    return error(code if code in CODES else "API_INVALID", f"{method} {path}", f"{status} {code} {problem.get('detail', answer)}")


class EventFeed:
    """The operators' log from number 1 on, read by long poll; survives the death of the control plane."""

    def __init__(self, api: OperatorsApi, clock: Clock) -> None:
        self._api, self._clock = api, clock
        self.events: list[EventView] = []
        self._changed = asyncio.Event()

    @property
    def last(self) -> int:
        return self.events[-1].seq if self.events else 0

    async def run(self) -> None:
        """Until it is cancelled."""
        never = asyncio.Event()
        while True:
            try:
                answer = await self._api.get(f"/v1/events?after={self.last}&limit=500&wait_s={LONG_POLL_S}")
            except TransientError:
                await self._clock.wait(never, RETRY_S)  # the control plane is down: the story kills it once
                continue
            fresh = [EventView(**event) for event in answer]
            if fresh:
                self.events += fresh
                self._changed.set()
                self._changed = asyncio.Event()

    async def wait(self, wanted: Callable[[EventView], bool], after: int = 0) -> EventView:
        """The first event with a number above `after` that is wanted. The caller has the deadline."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event.seq > after and wanted(event):
                    return event
            seen = len(self.events)
            await self._changed.wait()
