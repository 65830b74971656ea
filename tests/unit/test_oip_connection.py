"""A connection of the REST front over a real socket: requests in pieces, callers that go, answers out of lent memory."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from contracts.errors import SkerryError, error
from edge_agent.inference.oip import sending
from edge_agent.inference.oip.connection import Listener
from edge_agent.inference.oip.exchange import OCTETS, Application, Handler, Head, Reply, Send
from edge_agent.inference.oip.front import Front, Limits
from edge_agent.inference.oip.incoming import MAX_AT_ONCE, MAX_HEAD_BYTES
from edge_agent.inference.oip.models import Models
from edge_agent.inference.oip.regions import Regions
from edge_agent.inference.oip.rest import RestApp
from tests.simulators.oip import SimArenas, listed
from tests.unit.test_oip_front import BODY, SimRepository

WAIT_S = 10.0
LIMIT_BYTES = 1000
INFER = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\n"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"
CLOSE = b"Connection: close\r\n"
LENT = 3_000_000  # more than a socket takes at once

Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(head: bytes, body: bytes = b"") -> bytes:
    return head + (b"Content-Length: %d\r\n\r\n" % len(body) if body else b"\r\n") + body


class Place:
    """A listener on a Unix socket."""

    def __init__(self, path: Path, listener: Listener) -> None:
        self.path, self.listener = str(path), listener

    async def connected(self) -> Connected:
        return await asyncio.open_unix_connection(self.path)

    async def told(self, *sent: bytes) -> bytes:
        """All that is answered to these pieces, each sent when the one before was taken; the last request closes."""
        reader, writer = await self.connected()
        for piece in sent:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def listening(folder: Path, application: Application, limit_s: float = WAIT_S) -> AsyncIterator[Place]:
    path, listener = folder / "s", Listener(application, limit_s)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        server = await asyncio.get_running_loop().create_unix_server(listener.connect, sock=bound)
        try:
            yield Place(path, listener)
        finally:
            server.close()
            await listener.close(WAIT_S)


def front(arenas: SimArenas) -> RestApp:
    return RestApp(Front(Models(arenas, 4), SimRepository(), Regions([]), Limits(2 * WAIT_S, LIMIT_BYTES, WAIT_S)), True)


def run(scenario: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(scenario, WAIT_S)

    return uvloop.run(bounded())


def codes(answers: bytes) -> list[tuple[int, str]]:
    """(status, code) of each; the code is "" where there is none."""
    found = []
    for answer in answers.split(b"HTTP/1.1 ")[1:]:
        said = re.search(rb'"code":"(\w+)"', answer)
        found.append((int(answer[:3]), said[1].decode() if said else ""))
    return found


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110  the simulator says it to nobody
        await asyncio.sleep(0)


def chunked(*pieces: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


@pytest.mark.parametrize(
    "pieces",
    [
        (request(INFER + CLOSE, BODY),),
        tuple(bytes([one]) for one in request(INFER + CLOSE, BODY)),
        (INFER + CLOSE, chunked(BODY[:9], BODY[9:])),
    ],
)
def test_a_request_may_come_in_pieces(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    async def scenario() -> bytes:
        async with listening(tmp_path, front(SimArenas(listed()))) as place:
            return await place.told(*pieces)

    answer = run(scenario())
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"][0]["data"] == [10, 0]


@pytest.mark.parametrize("pieces", [(b"x" * 1001,), (b"x" * 600, b"x" * 600), (b"x" * 1000, b"x")], ids=["one", "two", "little"])
def test_a_body_may_not_be_longer_than_the_limit_however_it_comes(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    async def scenario() -> bytes:
        async with listening(tmp_path, front(SimArenas(listed()))) as place:
            return await place.told(INFER, chunked(*pieces))

    assert codes(run(scenario())) == [(413, "OIP_TOO_LARGE")]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (INFER + b"Content-Length: 9\r\n\r\nx", [(408, "OIP_SLOW_BODY")]),
        (LIVE, []),  # a head without end
        (b"", []),
        (request(LIVE) + INFER + b"Content-Length: 9\r\n\r\nx", [(200, ""), (408, "OIP_SLOW_BODY")]),
    ],
    ids=["body", "head", "nothing", "second body"],
)
def test_who_does_not_go_on_is_given_up(tmp_path: Path, sent: bytes, told: list[tuple[int, str]]) -> None:
    async def scenario() -> bytes:
        async with listening(tmp_path, front(SimArenas(listed())), limit_s=0.05) as place:
            return await place.told(sent)

    assert codes(run(scenario())) == told


def test_what_is_not_read_yet_is_not_late(tmp_path: Path) -> None:
    """Two requests wait for their answers, so that the rest of a third is not read."""

    async def scenario() -> bytes:
        arenas = SimArenas(listed())
        async with listening(tmp_path, front(arenas), limit_s=0.05) as place:
            await place.told(request(INFER + CLOSE, BODY))
            (client,) = arenas.clients["tiny-1"]
            client.at_once = False
            reader, writer = await place.connected()
            writer.write(request(INFER, BODY) * 2 + LIVE + CLOSE)
            await until(lambda: client.waiting)
            await asyncio.sleep(0.3)
            client.settle()
            await until(lambda: client.waiting)
            client.settle()
            writer.write(b"\r\n")
            answers = await reader.read()
            writer.close()
        return answers

    assert codes(run(scenario())) == [(200, "")] * 3


def test_who_begins_a_head_and_waits_for_an_answer_gets_it(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        arenas = SimArenas(listed())
        async with listening(tmp_path, front(arenas), limit_s=0.05) as place:
            await place.told(request(INFER + CLOSE, BODY))
            (client,) = arenas.clients["tiny-1"]
            client.at_once = False
            reader, writer = await place.connected()
            writer.write(request(INFER, BODY) + LIVE)
            await until(lambda: client.waiting)
            await asyncio.sleep(0.3)
            client.settle()
            answers = await reader.read()
            writer.close()
        return answers

    assert codes(run(scenario())) == [(200, "")]


@pytest.mark.parametrize(
    "sent",
    [
        LIVE + b"X: y\r\n" * (MAX_HEAD_BYTES // 6 + 2),
        LIVE + b"X: " + b"y" * MAX_HEAD_BYTES,
        INFER + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"y" * MAX_HEAD_BYTES,  # behind the body
        INFER + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"y" * MAX_HEAD_BYTES,  # within it
    ],
    ids=["many", "long", "trailer", "chunk"],
)
def test_what_is_no_body_has_a_limit(tmp_path: Path, sent: bytes) -> None:
    async def scenario() -> bytes:
        async with listening(tmp_path, front(SimArenas(listed()))) as place:
            return await place.told(sent)

    assert codes(run(scenario())) == [(413, "OIP_TOO_LARGE")]


def test_requests_behind_each_other_are_counted(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        async with listening(tmp_path, front(SimArenas(listed()))) as place:
            return await place.told(request(LIVE) * (MAX_AT_ONCE + 1))

    *answered, last = codes(run(scenario()))
    assert answered == [(200, "")] * MAX_AT_ONCE
    assert last == (413, "OIP_TOO_LARGE")


def test_a_caller_that_goes_within_its_body_asks_for_nothing(tmp_path: Path) -> None:
    async def scenario() -> int:
        arenas = SimArenas(listed())
        async with listening(tmp_path, front(arenas)) as place:
            _, writer = await place.connected()
            writer.write(INFER + b"Content-Length: 999\r\n\r\n" + BODY[:9])
            await until(lambda: place.listener.connections)
            writer.close()
            await until(lambda: not place.listener.connections)
        return arenas.asked

    assert run(scenario()) == 0


def test_a_caller_that_goes_while_the_worker_computes_takes_its_request_along(tmp_path: Path) -> None:
    async def scenario() -> None:
        arenas = SimArenas(listed())
        async with listening(tmp_path, front(arenas)) as place:
            await place.told(request(INFER + CLOSE, BODY))  # what is known of the model, and its seat, are there
            (client,) = arenas.clients["tiny-1"]
            client.at_once = False
            _, writer = await place.connected()
            writer.write(request(INFER, BODY))
            await until(lambda: client.waiting)
            writer.close()
            await until(lambda: client.cancelled)
            assert (client.cancelled, client.free) == ([2], 2)

    run(scenario())


def test_what_is_being_answered_is_answered_before_the_front_ends(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        arenas = SimArenas(listed())
        async with listening(tmp_path, front(arenas)) as place:
            await place.told(request(INFER + CLOSE, BODY))
            (client,) = arenas.clients["tiny-1"]
            client.at_once = False
            idle, idles = await place.connected()
            reader, writer = await place.connected()
            writer.write(request(INFER, BODY))
            await until(lambda: client.waiting)
            ending = asyncio.ensure_future(place.listener.close(WAIT_S))
            assert await idle.read() == b""
            client.settle()
            await ending
            answer = await reader.read()
            idles.close()
            writer.close()
        return answer

    answer = run(scenario())
    assert codes(answer) == [(200, "")]
    assert b"\r\nconnection: close\r\n" in answer


def test_whose_time_is_over_is_gone_when_the_listener_is_closed(tmp_path: Path) -> None:
    """Its seat may be closed then."""

    async def scenario() -> list[int]:
        arenas = SimArenas(listed())
        async with listening(tmp_path, front(arenas)) as place:
            await place.told(request(INFER + CLOSE, BODY))
            (client,) = arenas.clients["tiny-1"]
            client.at_once = False
            _, writer = await place.connected()
            writer.write(request(INFER, BODY))
            await until(lambda: client.waiting)
            await place.listener.close(0.05)
            writer.close()
            return client.cancelled

    assert run(scenario()) == [2]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET http://x HTTP/1.1\r\n" + CLOSE + b"\r\n", [(404, "OIP_ENDPOINT")]),
        (b"GET http://x/v2/health/live HTTP/1.1\r\n" + CLOSE + b"\r\n", [(200, "")]),
        (b"OPTIONS * HTTP/1.1\r\n" + CLOSE + b"\r\n", [(404, "OIP_ENDPOINT")]),
        (b"GET /v2/models/* HTTP/1.1\r\n" + CLOSE + b"\r\n", [(404, "ARENA_MODEL")]),
        (b"GET /v2/models//ready HTTP/1.1\r\n" + CLOSE + b"\r\n", [(404, "OIP_ENDPOINT")]),
        (b"POST /v2/models/tiny/infer HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", []),  # 1.0 knows no 100
    ],
)
def test_unusual_heads_are_read_as_http_says(tmp_path: Path, sent: bytes, told: list[tuple[int, str]]) -> None:
    async def scenario() -> bytes:
        async with listening(tmp_path, front(SimArenas(listed())), limit_s=0.2) as place:
            return await place.told(sent)

    answers = codes(run(scenario()))
    assert answers == (told or [(408, "OIP_SLOW_BODY")])


# -- other applications


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


def test_a_body_behind_an_offer_of_another_protocol_is_read(tmp_path: Path) -> None:
    """As Java's client sends it, which offers HTTP/2 with its first request."""
    offer = INFER + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    sent = request(offer, BODY) + offer + chunked(BODY[:9], BODY[9:]) + request(LIVE + CLOSE)

    async def scenario(*pieces: bytes) -> bytes:
        async with listening(tmp_path, front(SimArenas(listed()))) as place:
            return await place.told(*pieces)

    answers = run(scenario(sent))
    assert codes(answers) == [(200, "")] * 3
    assert answers.count(b'"data":[10.0,0.0]') == 2
    (tmp_path / "s").unlink()
    assert run(scenario(*(bytes([one]) for one in sent))) == answers


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
