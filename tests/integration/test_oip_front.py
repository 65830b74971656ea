"""The front as a process, asked by hand: every refusal with its status, cancellation, swaps, ends of worker and front."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from edge_agent.inference.host import HostSettings
from edge_agent.inference.oip import open_inference_pb2 as pb
from edge_agent.inference.oip.link import LinkSettings, OipLink
from edge_agent.inference.worker.backends import fake
from tests.integration.oip_process import Site, site
from tests.simulators.bundles import INPUT_SHAPE, OUTPUT_SHAPE, fake_slot, golden_inputs

VALUES = golden_inputs(1)
WAIT_S = 30.0
SLOW, NAN, SEGV, REFUSE = 1e6, 2e6, 3e6, 4e6  # the first input value on which a fault acts
FAULTS: list[dict[str, Any]] = [
    {"do": "slow", "us": 400_000, "value": SLOW},
    {"do": "nan", "value": NAN},
    {"do": "segv", "value": SEGV},
    {"do": "refuse", "value": REFUSE},
]
FRONT = {"max_request_bytes": 20_000, "body_s": 1.0, "line_limit": 1}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("oip")
    with site(folder, fake_slot(folder / "slots", *FAULTS), FRONT, HostSettings(cells_per_seat=2)) as started:
        yield started


def with_first(value: float) -> Any:
    values = VALUES.copy()
    values.flat[0] = value
    return values


def body(values: Any = VALUES, **parameters: Any) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(INPUT_SHAPE), "data": values.ravel().tolist()}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def ask(here: Site, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """(status, what its JSON says)"""
    connection = http.client.HTTPConnection(here.rest, timeout=WAIT_S)
    try:
        connection.request(method, path, data, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith((b"{", b"[")) else text.decode()
    finally:
        connection.close()


def infer(here: Site, data: bytes, headers: dict[str, str] | None = None, version: str = "") -> tuple[int, str]:
    """(status, error code)"""
    path = f"/v2/models/tiny{version and f'/versions/{version}'}/infer"
    status, answer = ask(here, "POST", path, data, headers)
    return status, answer.get("code", "")


def test_the_answer_is_the_models(here: Site) -> None:
    status, answer = ask(here, "POST", "/v2/models/tiny/versions/1/infer", body())
    assert status == 200
    assert (answer["model_name"], answer["model_version"]) == ("tiny", "1")
    assert np.allclose(answer["outputs"][0]["data"], fake.expected(VALUES, OUTPUT_SHAPE).ravel(), atol=1e-4)


def test_a_whole_body_may_be_the_input(here: Site) -> None:
    connection = http.client.HTTPConnection(here.rest, timeout=WAIT_S)
    connection.request("POST", "/v2/models/tiny/infer", VALUES.tobytes(), {"Inference-Header-Content-Length": "0"})
    answer = connection.getresponse()
    data = answer.read()[int(answer.headers["Inference-Header-Content-Length"]) :]
    assert np.allclose(np.frombuffer(data, "<f4"), fake.expected(VALUES, OUTPUT_SHAPE).ravel(), atol=1e-4)
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "OIP_ENDPOINT"), ("GET", "/v2/models", 404, "OIP_ENDPOINT"), ("GET", "/v3", 404, "OIP_ENDPOINT"),
        ("POST", "/v2", 405, "OIP_METHOD"), ("GET", "/v2/models/tiny/infer", 405, "OIP_METHOD"),
        ("GET", "/v2/models/other", 404, "ARENA_MODEL"), ("GET", "/v2/models/tiny/versions/7/ready", 404, "ARENA_MODEL"),
        ("POST", "/v2/models/other/infer", 404, "ARENA_MODEL"), ("POST", "/v2/repository/models/other/load", 404, "OIP_NOT_ADMITTED"),
        ("POST", "/v2/repository/models/tiny/unload", 409, "OIP_IN_USE"),
        ("POST", "/v2/systemsharedmemory/region/r/register", 403, "OIP_REGION_OWNER"),
        ("POST", "/v2/cudasharedmemory/region/r/register", 501, "OIP_UNSUPPORTED"),
        ("POST", "/v2/cudasharedmemory/region/r/unregister", 501, "OIP_UNSUPPORTED"),
        ("GET", "/v2/cudasharedmemory/region/r/status", 501, "OIP_UNSUPPORTED"),
        ("GET", "/v2/systemsharedmemory/status", 403, "OIP_REGION_OWNER"),
        ("GET", "/v2/systemsharedmemory/region/r/status", 403, "OIP_REGION_OWNER"),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_says_so(here: Site, method: str, path: str, status: int, code: str) -> None:
    answered, answer = ask(here, method, path)
    assert (answered, answer["code"]) == (status, code)
    assert answer["error"].startswith(code)


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"", {}, 400, "OIP_REQUEST"), (b"{", {}, 400, "OIP_REQUEST"), (b"{}", {}, 400, "OIP_TENSOR"),
        (body(VALUES[:, :, :2]), {}, 400, "OIP_TENSOR"), (body(sequence_id=1), {}, 400, "OIP_PARAMETER"),
        (b"x" * 20_001, {}, 413, "OIP_TOO_LARGE"), (b"x" * 20, {"Content-Encoding": "gzip"}, 415, "OIP_ENCODING"),
        (b"{}", {"Inference-Header-Content-Length": "x"}, 400, "OIP_REQUEST"),
        (b"{}", {"Inference-Header-Content-Length": "9"}, 400, "OIP_REQUEST"),
        (b"123", {"Inference-Header-Content-Length": "0"}, 400, "OIP_TENSOR"),
        (body(with_first(NAN)), {}, 500, "WORKER_NOT_FINITE"), (body(with_first(REFUSE)), {}, 400, "WORKER_MODEL"),
        (body(with_first(SLOW), timeout=50_000), {}, 504, "ARENA_TIMEOUT"),
    ],
)  # fmt: skip
def test_a_bad_inference_is_refused_with_its_code(here: Site, data: bytes, headers: dict[str, str], status: int, code: str) -> None:
    assert infer(here, data, headers) == (status, code)
    assert infer(here, body()) == (200, "")


def test_a_body_in_chunks_may_not_be_longer_either(here: Site) -> None:
    connection = http.client.HTTPConnection(here.rest, timeout=WAIT_S)
    connection.request("POST", "/v2/models/tiny/infer", iter([b"x" * 15_000] * 2), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def begun(here: Site, data: bytes, length: int) -> socket.socket:
    """A connection that has sent a request of which `data` is all that comes of a body of `length`."""
    host, port = here.rest.split(":")
    connection = socket.create_connection((host, int(port)), WAIT_S)
    connection.sendall(f"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + data)
    return connection


def test_a_body_that_does_not_come_is_not_waited_for(here: Site) -> None:
    with begun(here, b"{", 100) as connection:
        assert b" 408 " in connection.recv(4096)


def test_a_connection_whose_request_never_begins_is_closed(here: Site) -> None:
    host, port = here.rest.split(":")
    with contextlib.ExitStack() as stack:
        silent, slow, kept = (stack.enter_context(socket.create_connection((host, int(port)), WAIT_S)) for _ in range(3))
        slow.sendall(b"GET /v2 HTTP/1.1\r\nHost")
        kept.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):  # head and body may come one after the other
            answer += kept.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 ")
        kept.sendall(b"GET")
        for connection in (silent, slow, kept):
            assert connection.recv(4096) == b""


def failures(here: Site) -> int:
    _, answer = ask(here, "GET", "/v2/models/tiny/stats")
    return int(answer["model_stats"][0]["inference_stats"]["fail"]["count"])


def test_a_request_whose_caller_hangs_up_is_given_up(here: Site) -> None:
    before, slow = failures(here), body(with_first(SLOW))
    begun(here, slow, len(slow)).close()
    until_s = time.monotonic() + WAIT_S
    while failures(here) == before and time.monotonic() < until_s:
        continue
    assert failures(here) == before + 1
    assert infer(here, body()) == (200, "")


def test_more_than_cells_and_line_hold_is_busy(here: Site) -> None:
    """Two cells, one place in the line, eight requests at once."""
    slow = body(with_first(SLOW))
    held = [begun(here, slow, len(slow)) for _ in range(8)]
    statuses = [int(connection.recv(4096).split(b" ")[1]) for connection in held]
    for connection in held:
        connection.close()
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 3


def test_a_worker_that_dies_of_a_request_answers_the_next(here: Site) -> None:
    assert infer(here, body(with_first(SEGV))) == (500, "WORKER_CRASH")
    assert infer(here, body()) == (200, "")


def test_metrics_have_tritons_names(here: Site) -> None:
    status, text = ask(here, "GET", "/metrics")
    assert status == 200
    for name in ("nv_inference_request_success", "nv_inference_queue_duration_us", "skerry_oip_queue_us_bucket"):
        assert f'{name}{{model="tiny",version="1"' in text


def test_sockets_are_for_the_group(here: Site) -> None:
    for path in (here.rest_socket, here.grpc_socket.removeprefix("unix:")):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(here.rest_socket)
        connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def grpc_infer(here: Site, values: Any = VALUES, timeout_s: float = WAIT_S) -> pb.ModelInferResponse:
    request = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[values.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=INPUT_SHAPE)
    with grpc.insecure_channel(here.grpc) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        response: pb.ModelInferResponse = call(request, timeout=timeout_s)
        return response


def named(name: str) -> bytes:
    """A request for a tensor of this name."""
    request = pb.ModelInferRequest(model_name="tiny")
    request.inputs.add(name=name, datatype="FP99")
    return bytes(request.SerializeToString())


def grpc_call(here: Site, data: bytes) -> None:
    with grpc.insecure_channel(here.grpc) as channel:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(data, timeout=WAIT_S)


def test_grpc_statuses(here: Site) -> None:
    assert grpc_infer(here).model_version == "1"
    for values, status in (
        (with_first(NAN), "INTERNAL"),
        (with_first(REFUSE), "INVALID_ARGUMENT"),
        (np.zeros(1 << 20), "RESOURCE_EXHAUSTED"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            grpc_infer(here, values)
        assert refused.value.code().name == status
    no_model = pb.ModelInferRequest(model_name="x" * 50_000).SerializeToString()
    for data in (b"\xff", no_model, named("n" * 50_000), named("\U0001f600" * 50_000)):
        with pytest.raises(grpc.RpcError) as hostile:
            grpc_call(here, data)
        assert hostile.value.code().name in ("INVALID_ARGUMENT", "NOT_FOUND")
        assert hostile.value.details().startswith(("OIP_REQUEST: ", "OIP_TENSOR: ", "ARENA_MODEL: "))
    with pytest.raises(grpc.RpcError) as expired:
        grpc_infer(here, with_first(SLOW), 0.05)
    assert expired.value.code().name == "DEADLINE_EXCEEDED"


def test_streams_are_not_served(here: Site) -> None:
    with grpc.insecure_channel(here.grpc) as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelStreamInferResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as refused:
            next(call(iter([pb.ModelInferRequest()]), timeout=WAIT_S))
        assert refused.value.code().name == "UNIMPLEMENTED"


def test_what_is_swapped_is_found_and_nothing_fails(tmp_path: Path) -> None:
    with site(tmp_path, fake_slot(tmp_path / "slots")) as here:
        old, new = here.live, fake_slot(tmp_path / "slots", number=2)
        assert ask(here, "POST", "/v2/models/tiny/infer", body())[1]["model_version"] == "1"
        here.load(new)
        here.make_live(new)
        here.unload(old[0])
        assert ask(here, "POST", "/v2/models/tiny/infer", body())[1]["model_version"] == "2"
        assert infer(here, body(), version="1") == (404, "ARENA_MODEL")
        here.unload(new[0])
        assert infer(here, body()) == (404, "ARENA_MODEL")
        assert ask(here, "GET", "/v2/health/ready")[0] == 400


def test_loading_by_hand_and_an_updates_step_are_never_at_once(here: Site) -> None:
    """With real workers: the load that is ended leaves none."""
    stuck, *_ = fake_slot(here.live[1].parent, {"do": "hang", "at": "load"}, name="stuck")
    fake_slot(here.live[1].parent, name="beside")

    async def step() -> bool:
        async with here.turn.step():
            answered = await asyncio.to_thread(ask, here, "POST", "/v2/repository/models/beside/load")
            assert (answered[0], answered[1]["code"]) == (503, "OIP_BUSY")
            return stuck in here.host.pids()

    with ThreadPoolExecutor(1) as caller:
        by_hand = caller.submit(ask, here, "POST", "/v2/repository/models/stuck/load")
        here.wait_until(lambda: stuck in here.host.pids())
        assert not here.in_loop(step())
        status, answer = by_hand.result(WAIT_S)
    assert (status, answer["code"]) == (503, "OIP_BUSY")
    assert ask(here, "POST", "/v2/repository/models/beside/load")[0] == 200
    assert ask(here, "POST", "/v2/repository/models/beside/unload")[0] == 200


def test_a_front_that_dies_is_started_again(tmp_path: Path) -> None:
    with site(tmp_path, fake_slot(tmp_path / "slots")) as here:
        assert infer(here, body()) == (200, "")
        here.link.ports["rest"] = 0
        os.kill(here.pid(), signal.SIGKILL)
        here.wait_until(lambda: here.link.ports["rest"])
        assert infer(here, body()) == (200, "")
        here.wait_until(lambda: here.host.figures()[here.live[0]]["seats"]["leased"] == 1)
        assert here.host.figures()[here.live[0]]["starts"] == 1, "the worker lived on"


def test_a_front_that_is_silent_is_killed_and_started_again(tmp_path: Path) -> None:
    mute = tmp_path / "python"
    mute.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec sleep 60\n")
    mute.chmod(0o755)

    async def scenario() -> list[int]:
        link, stop = OipLink(tmp_path, str(mute), {}, NoRepository(), lambda _: None, LinkSettings(silent_s=0.2)), asyncio.Event()
        running = asyncio.ensure_future(link.run(stop))
        while len(pids()) < 2:  # noqa: ASYNC110  the file announces itself to nobody
            await asyncio.sleep(0.01)
        stop.set()
        await running
        return pids()

    def pids() -> list[int]:
        written = tmp_path / "pids"
        return [int(line) for line in written.read_text().split()] if written.exists() else []

    started = asyncio.run(asyncio.wait_for(scenario(), WAIT_S))
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []


class NoRepository:
    async def index(self) -> list[Any]:
        return []

    async def load(self, name: str, version: str) -> None:
        raise AssertionError

    async def unload(self, name: str, version: str) -> None:
        raise AssertionError
