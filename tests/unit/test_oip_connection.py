"""A connection of the REST front over a real socket: requests in pieces, and callers that go, wait, or do not end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from edge_agent.inference.oip.front import Front, Limits
from edge_agent.inference.oip.incoming import MAX_AT_ONCE, MAX_HEAD_BYTES
from edge_agent.inference.oip.models import Models
from edge_agent.inference.oip.regions import Regions
from edge_agent.inference.oip.rest import RestApp
from tests.simulators.oip import SimArenas, SimSeatClient, listed
from tests.unit.oip_listener import CLOSE, LIMIT_BYTES, LIVE, WAIT_S, Place, chunked, codes, listening, request, run, until
from tests.unit.test_oip_front import BODY, SimRepository

INFER = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\n"


def front(arenas: SimArenas) -> RestApp:
    return RestApp(Front(Models(arenas, 4), SimRepository(), Regions([]), Limits(2 * WAIT_S, LIMIT_BYTES, WAIT_S)), True)


async def seat_that_waits(place: Place, arenas: SimArenas) -> SimSeatClient:
    """The front's, which has answered once; from now on it answers when the test says so."""
    await place.told(request(INFER + CLOSE, BODY))
    (client,) = arenas.clients["tiny-1"]
    client.at_once = False
    return client


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
            client = await seat_that_waits(place, arenas)
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
            client = await seat_that_waits(place, arenas)
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
            client = await seat_that_waits(place, arenas)
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
            client = await seat_that_waits(place, arenas)
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
            client = await seat_that_waits(place, arenas)
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
