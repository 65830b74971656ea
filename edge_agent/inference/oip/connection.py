"""One HTTP/1.1 connection of the REST front: requests are read whole and answered one after the other.

What a caller may take is limited here and in incoming.py: a place, time, the bytes of a head and of a body. Silent callers, heads without
end and callers that do not read their answers would use up the front's descriptors and memory, and with them its gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from functools import partial
from typing import cast

from contracts.errors import SkerryError, error
from edge_agent.inference.oip import sending
from edge_agent.inference.oip.exchange import Application, Reply
from edge_agent.inference.oip.incoming import Incoming, Request

MAX_CONNECTIONS = 160  # of one listener: four of them, the regions and the seats stay below 1024, the descriptors that a process may have
KEEP_ALIVE_S = 75
READ_BYTES = 1024 * 1024  # at once
SOON_S = 0.001  # a timer may be early, and looks again then


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
        tasks = [task for connection in tuple(self.connections) if (task := connection.abort())]
        await asyncio.gather(*tasks, return_exceptions=True)


class Connection(asyncio.BufferedProtocol):
    """Closed with a code when it is one too many or what comes is no request, without one when its time is over."""

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle
    _stuck: asyncio.TimerHandle | None = None  # while an answer waits for its reader
    _answering: Request | None = None
    _task: asyncio.Task[None] | None = None
    _paused = False  # nothing is read
    _ending = False

    def __init__(self, listener: Listener) -> None:
        self._listener, self._loop = listener, asyncio.get_running_loop()
        self._incoming = Incoming(listener.application, self._came)
        self._waiting: deque[Request] = deque()  # behind the one that is being answered

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
        before = self._incoming.stage
        try:
            self._incoming.feed(self._listener.buffer[:nbytes])
        except SkerryError as refused:
            self._refuse(refused)
        if self._incoming.stage != before:
            self._allow(self._patience_s())
            self._continue()

    def pause_writing(self) -> None:
        self._stuck = self._loop.call_later(self._listener.limit_s, self._transport.abort)

    def resume_writing(self) -> None:
        self._reader_is_back()
        self._go_on()
        self._allow(self._patience_s())

    def connection_lost(self, exc: Exception | None) -> None:
        """Who hung up takes the request along."""
        self._listener.leave(self)
        self._timer.cancel()
        self._reader_is_back()
        self._waiting.clear()
        self._incoming.request.pieces = []  # parser and connection know each other: they would keep it for a while
        if self._task is not None:
            self._task.cancel()

    def end(self) -> None:
        """After what is being answered."""
        self._ending = True
        if self._answering is None:
            self._close()

    def abort(self) -> asyncio.Task[None] | None:
        """At once. What was being answered, and ends now."""
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # -- requests, in their order

    def _came(self, request: Request) -> None:
        self._waiting.append(request)
        self._go_on()
        if self._waiting:
            self._pause()

    def _refuse(self, refused: SkerryError) -> None:
        """All that may still come."""
        request = Request()
        request.keep_alive, request.refused = False, refused
        self._came(request)
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

    async def _answer(self, request: Request) -> None:
        try:
            await request.handler.answer(request.take_body(), partial(self._send, request))
        except SkerryError as refused:
            self._send(request, self._listener.application.refusal(refused))
        except MemoryError:
            self._send(request, self._listener.application.refusal(error("OIP_MEMORY")))
        except Exception:
            self._send(request, self._listener.application.refusal(error("OIP_BUG")))
            raise
        finally:
            self._answering = self._task = None
            if not request.answered:
                self._transport.abort()
            self._go_on()

    def _send(self, request: Request, reply: Reply) -> None:
        if request.answered or self._transport.is_closing():
            return
        request.answered = True
        closes = reply.closes or self._ending or not request.keep_alive
        try:
            sending.send(self._transport, self._fd, reply, request.with_body, closes)
        except BaseException:  # part of it may have gone: what came next would be taken for the rest
            self._transport.abort()
            raise
        if closes:
            self._close()

    def _close(self) -> None:
        """What is on its way has its time."""
        self._transport.close()
        self._allow(self._listener.limit_s)

    def _rest(self) -> None:
        """All that came is answered."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
            self._allow(self._patience_s())
        elif self._incoming.request.whole:
            self._allow(KEEP_ALIVE_S)
        self._continue()

    def _continue(self) -> None:
        """Tell a caller who waits for it to send its body."""
        request = self._incoming.request
        if request.awaits_continue and not request.whole and self._answering is None and not self._waiting:
            request.awaits_continue = False
            self._allow(self._listener.limit_s)
            self._transport.write(sending.CONTINUE)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    # -- time

    def _patience_s(self) -> float:
        """For what is awaited of the caller."""
        if not self._incoming.request.whole:
            return self._listener.limit_s
        return KEEP_ALIVE_S if self._answering is None else math.inf

    def _allow(self, seconds: float) -> None:
        self._due_s = self._loop.time() + seconds

    def _look_at_time(self) -> None:
        """One timer for all that may take too long: a timer for each of them would be what a small request waits for."""
        left_s = self._due_s - self._loop.time()
        if self._transport.is_closing():
            if left_s <= 0:
                self._transport.abort()
        elif self._paused:  # nothing is read, so nothing is awaited
            left_s = math.inf
        elif left_s <= 0:
            self._too_late()
            left_s = math.inf
        self._timer = self._loop.call_later(min(max(left_s, SOON_S), self._listener.limit_s), self._look_at_time)

    def _too_late(self) -> None:
        request = self._incoming.request
        self._allow(math.inf)
        if not request.headed and self._answering is not None:
            self._answering.keep_alive = False
            self._pause()
        elif request.whole or not request.headed or request.refused is not None:
            self._close()
        else:
            request.keep_alive = False
            self._incoming.refuse(error("OIP_SLOW_BODY", "", f"{self._listener.limit_s:g} s"))

    def _reader_is_back(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
