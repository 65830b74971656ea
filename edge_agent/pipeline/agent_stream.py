"""The pipeline's end of the stream to the agent: whole messages out, messages and descriptors in. Sending never waits."""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from edge_agent.pipeline.framing import Unpacker, pack

LONGEST_WAIT_S = 0.5  # a signal does not end a poll; who waits looks at least this often whether one came
MAX_DESCRIPTORS = 16


class AgentStream:
    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._stream.setblocking(False)
        self._unpacker, self._unsent = Unpacker(), bytearray()
        self._descriptors: list[int] = []
        self.gone = False  # the agent has ended: nobody is left to take rows

    def send(self, message: dict[str, Any]) -> None:
        self._unsent += pack(message)
        self._flush()

    def messages(self, until_s: float) -> list[dict[str, Any]]:
        """What has come by `until_s` (monotonic) at the latest; it may return earlier with nothing."""
        poll = select.poll()
        poll.register(self._stream, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        left_s = min(until_s - time.monotonic(), LONGEST_WAIT_S)
        events = sum(event for _, event in poll.poll(max(0.0, left_s * 1000)))
        if events & select.POLLOUT:
            self._flush()
        return self._receive() if events & (select.POLLIN | select.POLLHUP) else []

    def descriptors(self, count: int) -> list[int]:
        """The next ones that came with messages; they are the caller's now."""
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return taken

    def _receive(self) -> list[dict[str, Any]]:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._stream, 65536, MAX_DESCRIPTORS)
        except BlockingIOError:
            return []
        except ConnectionError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        self.gone = self.gone or not data
        return self._unpacker.feed(data)

    def _flush(self) -> None:
        """As much as the socket takes; the rest goes when it can be written again."""
        try:
            while self._unsent:
                del self._unsent[: self._stream.send(self._unsent)]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            self.gone = True
            self._unsent.clear()
