"""REST over the front in memory: what is refused, answers that must not be sent; and what is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest

from contracts.errors import SkerryError, error
from edge_agent.inference.oip.exchange import Head, Reply
from edge_agent.inference.oip.front import Front, Limits
from edge_agent.inference.oip.models import Models
from edge_agent.inference.oip.regions import Regions
from edge_agent.inference.oip.rest import RestApp
from edge_agent.inference.oip.statistics import ModelCounts, Times, exposition
from tests.simulators.oip import SimArenas, listed

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
LIMITS = Limits(timeout_s=5, max_request_bytes=1000, body_s=0.1)


class SimRepository:
    async def index(self) -> list[Mapping[str, Any]]:
        return [{"name": "tiny", "version": "1", "state": "READY", "reason": ""}, {"name": "old", "version": "1", "state": "UNAVAILABLE"}]

    async def load(self, name: str, version: str) -> None:
        raise error("OIP_NOT_ADMITTED", name)

    async def unload(self, name: str, version: str) -> None:
        raise error("OIP_IN_USE", name)


class Caller:
    """One listener, called as its connections call it."""

    def __init__(self, arenas: SimArenas | None = None, local: bool = True) -> None:
        self.arenas = arenas or SimArenas(listed())
        self.app = RestApp(Front(Models(self.arenas, 4), SimRepository(), Regions([]), LIMITS), local)

    async def __call__(self, method: str, path: str, body: bytes = b"", headers: dict[bytes, bytes] | None = None) -> tuple[int, Any]:
        """(status, JSON or text)."""
        sent: list[tuple[int, bytes]] = []

        def send(reply: Reply) -> None:
            sent.append((reply.status, b"".join(reply.pieces)))

        try:
            await self.app.begin(Head(method, path, headers or {})).answer(body, send)
        except SkerryError as refused:
            send(self.app.refusal(refused))
        ((status, text),) = sent
        return status, json.loads(text) if text.startswith((b"{", b"[")) else text.decode()


INFER = ("POST", "/v2/models/tiny/infer")


def run(call: Coroutine[Any, Any, tuple[int, Any]]) -> tuple[int, Any]:
    return asyncio.run(asyncio.wait_for(call, 20))


def test_a_body_that_will_be_too_long_is_refused_by_its_head() -> None:
    for path, too_long in (("/v2/models/tiny/infer", 1001), ("/v2/repository/index", 65537)):
        status, answer = run(Caller()("POST", path, headers={b"content-length": b"%d" % too_long}))
        assert (status, answer["code"]) == (413, "OIP_TOO_LARGE")
    assert run(Caller()(*INFER, BODY, headers={b"content-length": b"1000"}))[0] == 200


def test_an_answer_that_is_not_finite_is_not_sent() -> None:
    async def scenario() -> tuple[int, Any]:
        caller = Caller()
        await caller(*INFER, BODY)
        caller.arenas.clients["tiny-1"][0].finite = False
        return await caller(*INFER, BODY)

    status, answer = run(scenario())
    assert (status, answer["code"]) == (500, "WORKER_NOT_FINITE")


def test_a_version_that_was_swapped_is_asked_again_of_the_new_one() -> None:
    async def scenario() -> tuple[int, Any]:
        caller = Caller()
        await caller(*INFER, BODY)
        caller.arenas.loaded = [listed(number=2)]
        caller.arenas.clients["tiny-1"][0].hang_up()
        return await caller(*INFER, BODY)

    status, answer = run(scenario())
    assert (status, answer["model_version"]) == (200, "2")


def test_what_an_agent_does_not_answer_is_unavailable() -> None:
    class Silent(SimArenas):
        def models(self) -> list[Mapping[str, Any]]:
            raise error("SETUP_NOT_RUNNING", "skerry-agent")

    status, answer = run(Caller(Silent())(*INFER, BODY))
    assert (status, answer["code"]) == (503, "SETUP_NOT_RUNNING")
    assert run(Caller(Silent())("GET", "/v2/health/ready"))[0] == 400
    assert run(Caller(Silent())("GET", "/v2/health/live"))[0] == 200


def test_the_repository_is_asked_and_configurations_are_not_taken() -> None:
    assert len(run(Caller()("POST", "/v2/repository/index", b""))[1]) == 2
    assert len(run(Caller()("POST", "/v2/repository/index", b'{"ready": true}'))[1]) == 1
    for parameters, code in (({}, "OIP_NOT_ADMITTED"), ({"config": "{}"}, "OIP_PARAMETER"), ({"file:1/model.onnx": ""}, "OIP_PARAMETER")):
        body = json.dumps({"parameters": parameters}).encode()
        assert run(Caller()("POST", "/v2/repository/models/tiny/load", body))[1]["code"] == code
    assert run(Caller()("POST", "/v2/repository/models/tiny/unload", b""))[0] == 409


@pytest.mark.parametrize(("local", "code"), [(True, "OIP_REGION_UNKNOWN"), (False, "OIP_REGION_OWNER")])
def test_shared_memory_is_for_the_socket(local: bool, code: str) -> None:
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 16}
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": place}]}).encode()
    assert run(Caller(local=local)(*INFER, body))[1]["code"] == code


def test_requests_are_counted_by_what_became_of_them() -> None:
    async def scenario() -> tuple[int, Any]:
        caller = Caller()
        for body in (BODY, BODY, BODY.replace(b"FP32", b"FP64"), b"{"):
            await caller(*INFER, body)
        return await caller("GET", "/v2/models/tiny/stats")

    (stats,) = run(scenario())[1]["model_stats"]
    assert stats["inference_count"] == 2
    counts = {name: one["count"] for name, one in stats["inference_stats"].items()}
    assert counts == {"success": 2, "fail": 2, "queue": 2, "compute_input": 2, "compute_infer": 2, "compute_output": 2} | {
        "cache_hit": 0, "cache_miss": 0
    }  # fmt: skip
    assert stats["inference_stats"]["queue"]["ns"] >= 10_000


def test_the_wait_for_a_cell_is_time_in_the_queue() -> None:
    async def scenario() -> tuple[int, Any]:
        caller = Caller(SimArenas(listed(), cells=1))
        await caller(*INFER, BODY)
        client = caller.arenas.clients["tiny-1"][0]
        client.at_once = False
        calls = [asyncio.ensure_future(caller(*INFER, BODY)) for _ in range(2)]
        for call, computes_s in zip(calls, (0.05, 0), strict=True):
            while not client.waiting:  # noqa: ASYNC110  the simulator says it to nobody
                await asyncio.sleep(0)
            await asyncio.sleep(computes_s)
            client.settle()
            await call
        return await caller("GET", "/v2/models/tiny/stats")

    (stats,) = run(scenario())[1]["model_stats"]
    assert stats["inference_stats"]["queue"]["ns"] >= 50_000_000


def test_a_name_without_a_version_has_the_statistics_of_all() -> None:
    caller = Caller(SimArenas(listed(), listed(number=2, live=False)))
    assert [one["version"] for one in run(caller("GET", "/v2/models/tiny/stats"))[1]["model_stats"]] == ["1", "2"]
    assert len(run(caller("GET", "/v2/models/tiny/versions/2/stats"))[1]["model_stats"]) == 1
    assert run(caller("GET", "/v2/models/other/stats"))[0] == 404


def test_health_says_what_clients_of_kserve_read() -> None:
    caller = Caller()
    assert run(caller("GET", "/v2/health/live")) == (200, {"live": True})
    assert run(caller("GET", "/v2/health/ready")) == (200, {"ready": True})
    assert run(caller("GET", "/v2/models/tiny/ready")) == (200, {"name": "tiny", "ready": True})


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_the_agent_is_not_asked_for_what_no_model_can_be_called(verb: str) -> None:
    status, answer = run(Caller()("POST", f"/v2/repository/models/{'x' * 65}/{verb}", b""))
    assert (status, answer["code"], len(answer["error"]) < 300) == (404, "OIP_NOT_ADMITTED", True)


def test_the_exposition_is_prometheus_text() -> None:
    counts = ModelCounts()
    for queue_us in (3, 30, 3_000_000):
        counts.answer(Times(4_000_000, queue_us * 1000, 1000, 2000, 3000), 7)
    counts.failure(5)
    lines = exposition({("m", "1"): counts}, {("m", "1"): 2}, {}).splitlines()
    for line in (
        'nv_inference_request_success{model="m",version="1"} 3',
        'nv_inference_request_failure{model="m",version="1"} 1',
        'nv_inference_request_duration_us{model="m",version="1"} 12000',
        'skerry_oip_pending{model="m",version="1"} 2',
        'skerry_oip_queue_us_bucket{model="m",version="1",le="10"} 1',
        'skerry_oip_queue_us_bucket{model="m",version="1",le="50"} 2',
        'skerry_oip_queue_us_bucket{model="m",version="1",le="1000000"} 2',
        'skerry_oip_queue_us_bucket{model="m",version="1",le="+Inf"} 3',
        'skerry_oip_queue_us_count{model="m",version="1"} 3',
    ):
        assert line in lines
    described = [line.split(" ")[2] for line in lines if line.startswith("# TYPE")]
    assert len(set(described)) == len(described) == len(counters())


def counters() -> list[str]:
    return [line for line in exposition({}, {}, {}).splitlines() if line.startswith("# HELP")]
