"""What one caller may take of the front, and who is served meanwhile: silence, heads without end, answers that nobody reads."""

from __future__ import annotations

import json
import re
import resource
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from edge_agent.inference.oip.connection import MAX_CONNECTIONS
from edge_agent.inference.oip.front import Limits
from edge_agent.inference.oip.incoming import MAX_HEAD_BYTES
from edge_agent.inference.oip.server import MAX_STREAMS
from tests.integration.oip_process import Site, site
from tests.integration.test_oip_front import ask, body, grpc_infer, infer
from tests.simulators.bundles import fake_slot

WAIT_S = 30.0
LIMIT_S = 1.0  # of a head, of an answer that is taken, of gRPC's handshake


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("oip")
    with site(folder, fake_slot(folder / "slots"), {"body_s": LIMIT_S}) as started:
        yield started


def connected(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), WAIT_S)


def everything(connection: socket.socket) -> bytes:
    """Until the front closes."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def one_answer(connection: socket.socket) -> bytes:
    """Of JSON: head and body may come apart."""
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(65536)
    return received


def code_in(answer: bytes) -> str:
    head, _, text = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return str(json.loads(text)["code"])


def until_served(here: Site) -> None:
    """The front learns by and by of those that were closed."""
    until_s = time.monotonic() + WAIT_S
    while not _is_served(here):
        assert time.monotonic() < until_s


def _is_served(here: Site) -> bool:
    try:
        return ask(here, "GET", "/v2/health/ready")[0] == 200
    except ConnectionError:
        return False


@pytest.mark.parametrize("request_", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET /v2/\xff HTTP/1.1\r\n\r\n", b"GET v2\r\n\r\n"])
def test_what_is_no_request_has_a_code(here: Site, request_: bytes) -> None:
    with connected(here.rest) as connection:
        connection.sendall(request_)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert code_in(answer) == "OIP_REQUEST"


def test_a_body_that_nobody_waited_for_is_no_head(here: Site) -> None:
    """The answer may come before the body has; the next request of that connection is answered as any other."""
    length = MAX_HEAD_BYTES * 3
    with connected(here.rest) as connection:
        connection.sendall(b"POST /v3 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length)
        assert one_answer(connection).startswith(b"HTTP/1.1 404 ")
        for _ in range(3):
            connection.sendall(bytes(MAX_HEAD_BYTES))
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert re.findall(rb"HTTP/1.1 (\d+)", everything(connection)) == [b"200"]
    with connected(here.rest) as connection:
        connection.sendall(b"POST /v3 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert one_answer(connection).startswith(b"HTTP/1.1 404 ")
        connection.sendall(b"x")
        assert everything(connection) == b"", "a body without end ends the connection"


def test_answers_come_in_the_order_of_their_requests(here: Site) -> None:
    """Requests that come together, one that waits to be told to go on, and one whose answer has no body."""
    sent = body()
    post = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(sent)
    live, gone = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connected(here.rest) as connection:
        connection.sendall(post + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(sent + live + b"HEAD /v2 HTTP/1.1\r\nHost: x\r\n\r\n" + post + b"\r\n" + sent + gone)
        answers = everything(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"405", b"200", b"404"]
    assert answers.count(b'"outputs"') == 2


@pytest.mark.parametrize("before", [b"", b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_head_without_end_is_refused(here: Site, before: bytes) -> None:
    """Also of a second request on the same connection."""
    begun = b"GET /v2 HTTP/1.1\r\nX: "
    with connected(here.rest) as connection:
        connection.sendall(before + begun)
        if before:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"x" * (MAX_HEAD_BYTES + 1 - (0 if before else len(begun))))
        answer = everything(connection)
    assert answer[answer.index(b"HTTP/1.1 4") :].startswith(b"HTTP/1.1 413 ")
    assert code_in(answer[answer.index(b"HTTP/1.1 4") :]) == "OIP_TOO_LARGE"


def test_one_connection_too_many_is_refused_and_the_others_are_served(here: Site) -> None:
    with ExitStack() as stack:
        kept = stack.enter_context(connected(here.rest))
        for _ in range(MAX_CONNECTIONS - 1):
            stack.enter_context(connected(here.rest))
        answer = everything(stack.enter_context(connected(here.rest)))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert code_in(answer) == "OIP_CONNECTIONS"
        kept.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert grpc_infer(here).model_version == "1"
    until_served(here)


def test_silent_connections_to_grpc_are_closed_and_take_nothing_from_rest(here: Site) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(here.grpc)) for _ in range(2 * MAX_CONNECTIONS)]
        assert infer(here, body()) == (200, "")
        assert everything(silent[0]) != b"", "its own settings, and then the end"
        assert grpc_infer(here).model_version == "1"


def test_requests_whose_message_never_comes_are_few(here: Site) -> None:
    """The front says so in HTTP/2's settings, its first frame; grpc refuses more."""
    with connected(here.grpc) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        with connection.makefile("rb") as stream:
            size, kind = struct.unpack(">IB", b"\0" + stream.read(9)[:4])
            settings = dict(struct.iter_unpack(">HI", stream.read(size)))
    assert (kind, settings[3]) == (4, MAX_STREAMS)


def test_answers_that_nobody_reads_are_not_kept(here: Site) -> None:
    """Thousands of them, asked for one behind the other."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(here.rest_socket)
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n" * 3000)
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP)
        assert poll.poll(WAIT_S * 1000), "the front hung up"
    assert infer(here, body()) == (200, "")


def test_json_that_no_such_tensor_needs_is_not_read(here: Site) -> None:
    """Its lists would take many times as much memory as its text."""
    request = json.loads(body())
    request["inputs"][0]["data"] = [[]] * 100_000
    assert infer(here, json.dumps(request).encode()) == (413, "OIP_TOO_LARGE")


def test_the_front_may_have_so_much_memory_and_no_more(here: Site) -> None:
    limit = 512 * 1024**2 + 8 * Limits().max_request_bytes
    assert resource.prlimit(here.pid(), resource.RLIMIT_DATA) == (limit, limit)
