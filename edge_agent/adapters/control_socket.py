"""agent.sock in the run folder: one JSON line in, JSON lines out. For `skerry-agent status` and `ledger`; reads only.

{"op": "status"}   one line          {"op": "ledger"}   one line
{"op": "follow"}   a status line when something changed, at most FOLLOW_HZ a second, until the caller hangs up
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from contracts.errors import error
from edge_agent.inference.within import within
from program.clock import Clock

NAME = "agent.sock"
FOLLOW_HZ = 5
MAX_REQUEST_BYTES = 4096
MAX_CONNECTIONS = 64  # each takes one of the agent's descriptors
REQUEST_S = 5.0  # from connecting to the whole request
Answers = dict[str, Callable[[], dict[str, Any]]]


class ControlSocket:
    """`answers`: op -> function that gives the answer; they may block for a read of a database."""

    def __init__(self, path: Path, answers: Answers, clock: Clock, request_s: float = REQUEST_S) -> None:
        self._path, self._answers, self._clock, self._request_s = path, answers, clock, request_s
        self._stop = asyncio.Event()
        self._connections = 0

    async def run(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, str(self._path), limit=MAX_REQUEST_BYTES)
        self._path.chmod(0o660)
        try:
            await stop.wait()
        finally:
            server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                await self._talk(_op(await within(reader.readline(), self._request_s)), writer)
        except (ConnectionError, ValueError, TimeoutError):
            pass  # the caller went away, says nothing or sent a line that is too long
        finally:
            self._connections -= 1
            writer.close()

    async def _talk(self, op: str, writer: asyncio.StreamWriter) -> None:
        if op == "follow":
            await self._follow(writer)
        else:
            answer = self._answers.get(op)
            await _write(writer, await asyncio.to_thread(answer) if answer else {"error": f"unknown op {op!r}"})

    async def _follow(self, writer: asyncio.StreamWriter) -> None:
        last: dict[str, Any] = {}
        while not self._stop.is_set() and not writer.is_closing():
            status = await asyncio.to_thread(self._answers["status"])
            if status != last:
                await _write(writer, status)
                last = status
            await self._clock.wait(self._stop, 1 / FOLLOW_HZ)


def _op(line: bytes) -> str:
    try:
        return str(json.loads(line).get("op", ""))
    except (ValueError, AttributeError):
        return ""


async def _write(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()


def ask(run_dir: Path, op: str, timeout_s: float = 5.0) -> Iterator[dict[str, Any]]:
    """The client: yields the answers. Raises LocalFaultError SETUP_NOT_RUNNING when no agent listens."""
    path = run_dir / NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout_s)
        try:
            client.connect(str(path))
            client.sendall(json.dumps({"op": op}).encode() + b"\n")
        except OSError as absent:
            raise error("SETUP_NOT_RUNNING", "skerry-agent", f"{path}: {absent.strerror}") from absent
        if op == "follow":
            client.settimeout(None)
        with client.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)
