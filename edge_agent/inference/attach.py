"""arena.sock in the run folder: where clients of the arena get a seat. docs/reference/wire.md has the form.

One JSON line comes, one goes. {"op": "attach", "model": name | digest | ""} is answered with the route and three descriptors, and the
connection stays open: it is the lease of the seat. It ends when all who hold it have closed it, by their death too, or when we
hang up because the version is unloaded. {"op": "list"} is answered with what is loaded.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import socket
import termios
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from contracts.errors import SkerryError, error
from edge_agent.inference.host import WorkerHost
from edge_agent.inference.lease import Lease
from edge_agent.inference.within import within
from program.log import Log

NAME = "arena.sock"
MAX_REQUEST_BYTES = 4096
REQUEST_S = 5.0  # from connecting to the whole request: a connection that says nothing is closed
MAX_CONNECTIONS = 512
AGAIN_S = 0.5
Request = dict[str, Any]


class AttachSocket:
    def __init__(
        self,
        path: Path,
        host: WorkerHost,
        live: Callable[[], str],
        request_s: float = REQUEST_S,
        candidate: Callable[[], str] = lambda: "",
    ) -> None:
        """`live`: the digest that serves now, `candidate`: the one that is tried beside it; "" when there is none."""
        self._path, self._host, self._live, self._request_s, self._candidate = path, host, live, request_s, candidate
        self._talks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Queue[BaseException] = asyncio.Queue()
        self._log = Log("arena")

    async def serve(self) -> None:
        """Never returns; ends by cancellation, or raises what a conversation raised, so that a bug ends the agent."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        self._path.chmod(0o660)
        listener.listen(128)
        listener.setblocking(False)
        accepting = asyncio.ensure_future(self._accept(listener))
        try:
            raise await self._failed.get()
        finally:
            for task in (accepting, *self._talks):
                task.cancel()
            await asyncio.gather(accepting, *self._talks, return_exceptions=True)
            listener.close()
            self._path.unlink(missing_ok=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as failed:  # no descriptor is left, perhaps for a moment only
                self._log.alarm("arena_accepts_nobody", detail=str(failed))
                await asyncio.sleep(AGAIN_S)
                continue
            connection.setblocking(False)
            if len(self._talks) >= MAX_CONNECTIONS:
                connection.close()
                continue
            talk = loop.create_task(self._talk(connection), name="arena client")
            self._talks.add(talk)
            talk.add_done_callback(partial(self._ended, connection))

    def _ended(self, connection: socket.socket, talk: asyncio.Task[None]) -> None:
        connection.close()  # a talk that was cancelled before its first step did not
        self._talks.discard(talk)
        if not talk.cancelled():
            failure = talk.exception()
            if failure is not None:
                self._failed.put_nowait(failure)

    async def _talk(self, connection: socket.socket) -> None:
        with connection:
            try:
                request = _request(await within(_line(connection), self._request_s))
                if request["op"] == "list":
                    _send(connection, {"models": self._host.models(self._live(), self._candidate())})
                    return
                lease = self._host.lease(request["model"], self._live())
            except SkerryError as refused:
                self._log("arena_refused", code=refused.code, detail=str(refused))
                _send(connection, {"code": refused.code, "detail": str(refused)})
                return
            except (TimeoutError, ConnectionError):
                return  # the caller went away, or says nothing
            try:
                if _send(connection, {"route": lease.route}, lease.descriptors):
                    await _until_either_hangs_up(connection, lease)
                else:
                    self._log.alarm("arena_answer_not_sent", bundle_digest=lease.route["digest"])
            finally:
                lease.end()


def _request(line: bytes) -> Request:
    """Raises RejectedError ARENA_REQUEST."""
    try:
        request = json.loads(line)
        op, model = request["op"], request.get("model", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as broken:
        raise error("ARENA_REQUEST", "", f"one line of JSON with op, at most {MAX_REQUEST_BYTES} bytes") from broken
    if op not in ("attach", "list") or not isinstance(model, str):
        raise error("ARENA_REQUEST", str(op)[:40], "op is attach or list, model is text")
    return {"op": op, "model": model}


async def _line(connection: socket.socket) -> bytes:
    """Up to the line's end, the stream's end, or more bytes than a request may have."""
    loop, received = asyncio.get_running_loop(), b""
    while b"\n" not in received and len(received) <= MAX_REQUEST_BYTES:
        data = await loop.sock_recv(connection, MAX_REQUEST_BYTES + 1)
        if not data:
            raise ConnectionResetError
        received += data
    return received.partition(b"\n")[0] if len(received) <= MAX_REQUEST_BYTES else b""


def _send(connection: socket.socket, answer: dict[str, Any], descriptors: tuple[int, ...] = ()) -> bool:
    """Whether it went out: an answer fits an empty socket's buffer whole. It does not where the caller went away, or where as many
    descriptors of ours are on their way to callers that do not read (ETOOMANYREFS).
    """
    data = json.dumps(answer).encode() + b"\n"
    try:
        if socket.send_fds(connection, [data], list(descriptors)) != len(data):
            raise AssertionError(f"an answer of {len(data)} bytes did not fit")
    except OSError:
        return False
    return True


async def _until_either_hangs_up(connection: socket.socket, lease: Lease) -> None:
    """A client that says anything more breaks the protocol and is treated as gone."""
    tasks = [asyncio.ensure_future(_end_of(connection)), asyncio.ensure_future(lease.revoked.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end_of(connection: socket.socket) -> None:
    """A caller that ends its half and does not read its answer keeps its seat: the descriptors on their way to it count as ours."""
    with contextlib.suppress(ConnectionError):
        await asyncio.get_running_loop().sock_recv(connection, 1)
    while _unread_bytes(connection):  # noqa: ASYNC110  nothing wakes us when it reads
        await asyncio.sleep(AGAIN_S)


def _unread_bytes(connection: socket.socket) -> int:
    """What the other end has not read yet; 0 once it has closed."""
    waiting = array.array("i", [0])
    fcntl.ioctl(connection, termios.TIOCOUTQ, waiting)
    return waiting[0]
