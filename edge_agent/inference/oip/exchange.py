"""What a connection of the REST front and its application say to each other. Values only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from contracts.errors import SkerryError

Buffer = Any  # bytes, memoryview, numpy array of bytes: typing has no name for it before 3.12
JSON, OCTETS, TEXT = b"application/json", b"application/octet-stream", b"text/plain; version=0.0.4"


class Head(NamedTuple):
    """Of a request."""

    method: str
    path: str  # decoded, without the query
    headers: Mapping[bytes, bytes]  # names in lower case; of two of one name the last


class Reply(NamedTuple):
    status: int
    pieces: tuple[Buffer, ...] = ()  # of its body; they may lie in memory that is lent until the reply is sent
    type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    closes: bool = False  # the connection


Send = Callable[[Reply], None]  # at once: what the kernel does not take now is copied


class Handler(NamedTuple):
    """Of one request whose head has come. `answer` gets its body, and sends one reply or raises SkerryError."""

    max_body_bytes: int
    answer: Callable[[bytes, Send], Awaitable[None]]


class Application(Protocol):
    def begin(self, head: Head) -> Handler:
        """Raises SkerryError for what is refused without its body."""

    def refusal(self, refused: SkerryError) -> Reply: ...
