"""Answers on their way out of the REST front: from lent memory, whole, in their turn, or not at all."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from contracts.errors import SkerryError, error
from edge_agent.inference.oip import sending
from edge_agent.inference.oip.exchange import OCTETS, Handler, Head, Reply, Send
from tests.unit.oip_listener import CLOSE, LIMIT_BYTES, codes, listening, request, run, until

LENT = 3_000_000  # more than a socket takes at once


class Lending:
    """Answers with memory that is another request's as soon as the reply is sent."""

    def begin(self, head: Head) -> Handler:
        return Handler(LIMIT_BYTES, {"/large": self._large, "/250000": self._middling}.get(head.path, self._small))

    def refusal(self, refused: SkerryError) -> Reply:
        raise AssertionError(refused)

    async def _large(self, body: bytes, send: Send) -> None:
        lent = bytearray(b"a" * LENT)
        send(Reply(200, (b"json", memoryview(lent)), OCTETS))
        lent[:] = b"b" * LENT

    async def _middling(self, body: bytes, send: Send) -> None:
        send(Reply(200, (bytes(250_000),)))

    async def _small(self, body: bytes, send: Send) -> None:
        send(Reply(200, (b"small",)))


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (request(b"GET /large HTTP/1.1\r\n" + CLOSE), [LENT + 4]),
        (request(b"GET / HTTP/1.1\r\n") + request(b"GET /large HTTP/1.1\r\n") + request(b"GET / HTTP/1.1\r\n" + CLOSE), [5, LENT + 4, 5]),
        (request(b"HEAD /large HTTP/1.1\r\n") + request(b"GET / HTTP/1.1\r\n" + CLOSE), [0, 5]),
        (b"POST /large HTTP/1.1\r\nExpect: 100-continue\r\n" + CLOSE + b"Content-Length: 1\r\n\r\nx", [LENT + 4]),  # it has come already
    ],
)
def test_a_large_answer_is_sent_from_lent_memory_whole_and_in_its_turn(tmp_path: Path, sent: bytes, told: list[int]) -> None:
    async def scenario() -> bytes:
        async with listening(tmp_path, Lending()) as place:
            return await place.told(sent)

    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in run(scenario()).split(b"HTTP/1.1 ")[1:]]
    assert [len(body) for body in bodies] == told
    assert all(body in (b"", b"small", b"json" + b"a" * LENT) for body in bodies)


def test_a_large_answer_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    """Also when its reader has made room in the socket of which the transport does not know yet."""
    large = [Reply(200, (letter * LENT,)) for letter in (b"a", b"b")]

    async def scenario() -> bytes:
        loop = asyncio.get_running_loop()
        ours, readers = socket.socketpair()
        transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=ours)
        sending.send(transport, ours.fileno(), large[0], True, False)
        answers = readers.recv(65536)
        sending.send(transport, ours.fileno(), large[1], True, False)
        transport.close()
        with readers:
            while more := await asyncio.to_thread(readers.recv, LENT):
                answers += more
        return answers

    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in run(scenario()).split(b"HTTP/1.1 ")[1:]]
    assert bodies == [b"a" * LENT, b"b" * LENT]


def test_an_offer_of_another_protocol_is_not_taken(tmp_path: Path) -> None:
    """As curl --http2 makes it. What comes behind it is read."""
    offer = b"GET /%s HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"

    async def scenario() -> bytes:
        async with listening(tmp_path, Lending()) as place:
            return await place.told(offer % b"1" + offer % b"2" + request(b"GET / HTTP/1.1\r\n" + CLOSE))

    assert codes(run(scenario())) == [(200, "")] * 3


def test_who_does_not_read_is_not_read_either(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with listening(tmp_path, Lending()) as place:
            _, writer = await place.connected()
            writer.write(request(b"GET /large HTTP/1.1\r\n"))
            await asyncio.sleep(0.2)
            writer.write(request(b"POST / HTTP/1.1\r\n", b"x" * LIMIT_BYTES) * 10_000)
            await asyncio.sleep(0.5)
            assert writer.transport.get_write_buffer_size() > 9_000 * LIMIT_BYTES
            writer.transport.abort()

    run(scenario())


def test_the_end_of_an_answer_that_nobody_reads_is_given_up(tmp_path: Path) -> None:
    """What is left is too little for the transport to say that it waits."""

    async def scenario() -> None:
        async with listening(tmp_path, Lending(), limit_s=0.1) as place:
            _, writer = await place.connected()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request(b"GET /%d HTTP/1.1\r\n" % 250_000 + CLOSE))
            await until(lambda: place.listener.connections)
            await until(lambda: not place.listener.connections)
            assert cast(asyncio.Transport, writer.transport).get_write_buffer_size() == 0, "it had been asked for whole"
            writer.close()

    run(scenario())


class Broken:
    def __len__(self) -> int:
        return 5


def test_an_answer_that_cannot_be_sent_ends_the_connection(tmp_path: Path) -> None:
    """Another answer behind a half would be taken for its rest."""

    class Unsendable(Lending):
        async def _small(self, body: bytes, send: Send) -> None:
            send(Reply(200, (Broken(),)))

    async def scenario() -> bytes:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        async with listening(tmp_path, Unsendable()) as place:
            return await place.told(request(b"GET / HTTP/1.1\r\n") * 2)

    assert run(scenario()) == b""


class Failing(Lending):
    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    async def _small(self, body: bytes, send: Send) -> None:
        raise self._failure

    def refusal(self, refused: SkerryError) -> Reply:
        return Reply(503, (b'"code":"%s"' % refused.code.encode(),))


@pytest.mark.parametrize(
    ("failure", "code"), [(MemoryError(), "OIP_MEMORY"), (error("ARENA_BUSY"), "ARENA_BUSY"), (KeyError("bug"), "OIP_BUG")]
)
def test_a_request_that_fails_has_an_answer(tmp_path: Path, failure: Exception, code: str) -> None:
    said: list[dict[str, Any]] = []

    async def scenario() -> bytes:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        async with listening(tmp_path, Failing(failure)) as place:
            return await place.told(request(b"GET / HTTP/1.1\r\n" + CLOSE))

    assert codes(run(scenario())) == [(503, code)]
    assert [context.get("exception") for context in said] == ([failure] if code == "OIP_BUG" else []), "a bug is in the log"
