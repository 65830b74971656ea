"""The signer's Unix socket: u32 length (little-endian) + JSON, answers in the same form, any number of requests per connection.

The kernel says who calls (SO_PEERCRED); a uid that is not on the list gets SIGNER_PEER and is not listened to. Lengths are
checked before a byte is read, and a peer that stops in the middle of a request is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from contracts.canonical import canonical_json
from contracts.errors import SkerryError, error
from contracts.release import SIGNER_MAX_BYTES, SignerAnswer
from program.disk import writing
from program.log import Log

READ_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 300.0
LINGER_S = 2.0
_LENGTH = struct.Struct("<I")

Handler = Callable[[bytes], Awaitable[SignerAnswer]]


class Listener:
    """Calls `handle` for each request. Who may connect is decided by uid, hence mode 0666."""

    def __init__(self, path: Path, allowed_uids: tuple[int, ...], handle: Handler, log: Log) -> None:
        self._path, self._allowed, self._handle, self._log = path, allowed_uids, handle, log
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)  # left by a process that was killed: a living one holds the state folder's lock
        self._server = await asyncio.start_unix_server(self._connection, self._path)
        os.chmod(self._path, 0o666)  # noqa: S103 - callers run under another uid, and are told apart by it

    async def close(self) -> None:
        """No new caller; those that are connected are hung up on, so that an idle one does not hold up the end."""
        self._server.close()
        for writer in self._connections:
            writer.close()
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            uid = _peer_uid(writer)
            if uid not in self._allowed:
                self._log.alarm("signer_peer_refused", uid=uid)
                await _refuse_and_linger(reader, writer, error("SIGNER_PEER", f"uid {uid}"))
                return
            while (data := await self._request(reader, writer)) is not None:
                await _send(writer, await self._handle(data))
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError) as cut:
            self._log.debug("signer_connection_cut", reason=repr(cut))
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """The next request's bytes; None when the peer is done or claimed too much."""
        try:
            head = await asyncio.wait_for(reader.readexactly(_LENGTH.size), IDLE_TIMEOUT_S)
        except asyncio.IncompleteReadError as ended:
            if ended.partial:
                raise
            return None
        (length,) = _LENGTH.unpack(head)
        if not 0 < length <= SIGNER_MAX_BYTES:
            await _refuse_and_linger(reader, writer, error("SIGNER_REQUEST", f"{length} bytes"))
            return None
        return await asyncio.wait_for(reader.readexactly(length), READ_TIMEOUT_S)


def refusing(handle: Callable[[bytes], SignerAnswer], log: Log) -> Callable[[bytes], SignerAnswer]:
    """`handle`, with each SkerryError turned into the answer that carries its code, and logged."""

    def answer(data: bytes) -> SignerAnswer:
        try:
            with writing("SETUP_STATE_DISK", "signer", "signing"):
                return handle(data)
        except SkerryError as refused:
            log.alarm("signing_refused", code=refused.code, thing=refused.thing, detail=refused.detail)
            return _refusal(refused)

    return answer


def _refusal(refused: SkerryError) -> SignerAnswer:
    return SignerAnswer(ok=False, code=refused.code, detail=str(refused))


async def _refuse_and_linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refused: SkerryError) -> None:
    """Answer, then throw away what the peer still sends, for a little while: a close over unread bytes would reset the
    connection, and the peer would never read why."""
    await _send(writer, _refusal(refused))
    left = SIGNER_MAX_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while left > 0 and (piece := await reader.read(64 * 1024)):
                left -= len(piece)


async def _send(writer: asyncio.StreamWriter, answer: SignerAnswer) -> None:
    body = canonical_json(answer.model_dump(mode="json"))
    writer.write(_LENGTH.pack(len(body)) + body)
    await writer.drain()


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)
