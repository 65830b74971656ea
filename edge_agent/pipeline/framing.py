"""Messages on the stream between agent and pipeline: u32 little-endian length, then one msgpack map. Pure; both ends use it."""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from contracts.pipeline import MAX_MESSAGE_BYTES

_LENGTH = struct.Struct("<I")


def packed_bytes(value: Any) -> int:
    """What it takes of a message."""
    return len(msgpack.packb(value))


def pack(message: dict[str, Any]) -> bytes:
    """Raises ValueError when the message is larger than both ends allow."""
    body: bytes = msgpack.packb(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(body)} bytes")
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Raises ValueError when the other end announces or sends something that is no message."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_MESSAGE_BYTES:
                raise ValueError(f"a message of {length} bytes")
            if len(self._buffer) < _LENGTH.size + length:
                break
            messages.append(_message(bytes(self._buffer[_LENGTH.size : _LENGTH.size + length])))
            del self._buffer[: _LENGTH.size + length]
        return messages


def _message(body: bytes) -> dict[str, Any]:
    message = msgpack.unpackb(body)
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ValueError("a message is a map with a kind")
    return message
