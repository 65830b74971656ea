"""What one REST connection may take of the front: a place, time, and the bytes of a head.

uvicorn limits none of them by itself: silent callers, heads without end and callers that do not read their answers would use up the
front's descriptors and memory, and with them its gRPC.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from contracts.errors import SkerryError, error
from edge_agent.inference.oip.rest import refusal

MAX_CONNECTIONS = 160  # of one listener: four of them, the regions and the seats stay below 1024, the descriptors that a process may have
MAX_HEAD_BYTES = 64 * 1024


class Connection(HttpToolsProtocol):
    """Closed with a code when it is one too many or what comes is no request, without one when its time is over."""

    limit_bytes: int  # of a body
    limit_s: float  # for a whole head, counted from when it may begin, and for an answer to be taken
    _late: asyncio.TimerHandle | None = None  # while a head is waited for
    _stuck: asyncio.TimerHandle | None = None  # while an answer waits for its reader
    _head_bytes = _body_bytes = 0
    _in_body = False
    _pieces: list[bytes]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(error("OIP_CONNECTIONS", f"{MAX_CONNECTIONS} of this listener"))

    def data_received(self, data: bytes) -> None:
        if self._late is None and self.cycle is not None and self.cycle.response_complete:
            self._await_head()
        awaited = self._late
        super().data_received(data)
        if awaited is not None and awaited is self._late and not self._in_body:  # what is left of a body may come after its answer
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(error("OIP_TOO_LARGE", "the head", f"more than {MAX_HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._pieces, self._body_bytes = [], 0
        if self._late is None:  # it came while the one before was answered
            self._await_head()

    def on_headers_complete(self) -> None:
        self._end_wait_for_head()
        self._in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Kept here until all of it came, or too much: the application can do nothing with a part, and would be woken for each piece."""
        if not self.cycle.response_complete:
            self._pieces.append(body)
            self._body_bytes += len(body)
            if self._body_bytes > self.limit_bytes:
                self._hand_over()
                self.flow.pause_reading()
                self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._end_wait_for_head()
        self._hand_over()
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.limit_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_wait_for_reader()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait_for_head()
        self._end_wait_for_reader()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(error("OIP_REQUEST", "", "this is no HTTP request"))

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._late = self.loop.call_later(self.limit_s, self.transport.close)

    def _end_wait_for_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end_wait_for_reader(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _hand_over(self) -> None:
        """As bytes: uvicorn would gather them in a bytearray, which it copies once more when it is asked for them."""
        if self.cycle.body:  # too much has come already
            self._pieces.insert(0, bytes(self.cycle.body))
        self.cycle.body = b"".join(self._pieces)  # type: ignore[assignment]
        self._pieces = []

    def _refuse(self, refused: SkerryError) -> None:
        answer = refusal(refused)
        head = b"content-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (answer.type, len(answer.body))
        self.transport.write(STATUS_LINE[answer.status] + head + answer.body)
        self.transport.close()


def with_limits(limit_bytes: int, limit_s: float) -> type[Connection]:
    return type("Connection", (Connection,), {"limit_bytes": limit_bytes, "limit_s": limit_s})
