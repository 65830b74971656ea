"""The Open Inference Protocol front over an echo, against servers that do nothing: same libraries, same load, same run.

The echo is the fake backend: what is computed is a copy. One caller gives the latency, eight the throughput; floor and front take turns.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson

from edge_agent.inference.host import HostSettings
from edge_agent.inference.oip import open_inference_pb2 as pb
from edge_agent.inference.oip.link import LinkSettings
from tests.benchmarks.empty_servers import empty_server
from tests.benchmarks.generators import Load, Request, h2load, wrk
from tests.benchmarks.inference_floor import ping_pong_us
from tests.integration.oip_process import Site, Slot
from tests.simulators.bundles import write_slot

Figure = dict[str, Any]
ROUNDS, CALLERS = {1: 5, 8: 3}, 8  # one caller's time hangs on who shares a core with whom, which changes within seconds
TINY_GOAL_US, LARGE_GOAL = 100.0, 1.5
SHARE_GOALS = {"rest": 0.25, "grpc": 0.40}
JSON_GOAL_MS, START_GOAL_S, RSS_GOAL_MIB = 15.0, 1.0, 120.0
SHAPES = {"tiny": (1, 64), "600 KB": (1, 3, 224, 224)}
REST_PATH, GRPC_PATH = "/v2/models/tiny/infer", "/inference.GRPCInferenceService/ModelInfer"
SPIN_US = 50  # the most that a profile may let a wait look before it blocks
GENERATORS: dict[str, Callable[[int, Request, int], Load]] = {"rest": wrk, "grpc": h2load}


@dataclass(frozen=True)
class Pair:
    """What floor and front did in one round."""

    floor: Load
    front: Load


def figures() -> list[Figure]:
    return [*(line for name, shape in SHAPES.items() for line in _of_shape(name, shape)), *_blocking()]


def _of_shape(name: str, shape: tuple[int, ...]) -> list[Figure]:
    lines: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder, _front(Path(folder), shape, SPIN_US) as (here, started_s):
        lines += _started(here, started_s) if name == "tiny" else _in_json(here, shape)
        for kind, request in (("rest", rest_request(shape)), ("grpc", grpc_request(shape))):
            lines += _against_floor(f"{kind}, {name}", kind, here, request)
        lines.append(_line(f"front's resident set after it, {name}", _rss_mib(here.pid()), "MiB", RSS_GOAL_MIB))
    return lines


def _blocking() -> list[Figure]:
    """What a caller waits under a profile that lets no wait spin."""
    shape, lines = SHAPES["tiny"], list[Figure]()
    with tempfile.TemporaryDirectory() as folder, _front(Path(folder), shape, 0) as (here, _):
        for kind, request in (("rest", rest_request(shape)), ("grpc", grpc_request(shape))):
            with empty_server(kind, len(request.body)) as floor_port:
                lines += _latency(f"{kind}, without spinning, tiny", _pairs(kind, floor_port, here, request, 1))
    return lines


# -- the front


@contextmanager
def _front(folder: Path, shape: tuple[int, ...], spin_us: int) -> Iterator[tuple[Site, float]]:
    """The site and the seconds from the front's spawn to its first answer."""
    slot = _echo(folder / "slots", shape)
    here = Site(folder, slot, {}, HostSettings(cells_per_seat=8, spin_us=spin_us), LinkSettings())
    try:
        here.load(slot)
        began = time.monotonic()
        here.start()
        _ask_once(here, shape)
        yield here, time.monotonic() - began
    finally:
        here.close()


def _echo(folder: Path, shape: tuple[int, ...]) -> Slot:
    inputs = np.random.default_rng(1).random((2, *shape[1:])).astype(np.float32)
    tensors = {"input": {"name": "x", "dtype": "f32", "shape": shape}, "output": {"name": "y", "dtype": "f32", "shape": shape}}
    return write_slot(folder, "fake", "model.json", b'{"faults": []}', (inputs, inputs), dict(tensors))


def _ask_once(here: Site, shape: tuple[int, ...]) -> None:
    """Both ways answer what was sent: the generators only count answers."""
    values, rest, message = values_of(shape), rest_request(shape), grpc_request(shape)
    connection = http.client.HTTPConnection(here.rest, timeout=10)
    connection.request("POST", rest.path, rest.body, dict(rest.headers))
    answer = connection.getresponse()
    assert answer.read().endswith(values.tobytes()), answer.status
    connection.close()
    with grpc.insecure_channel(here.grpc, [("grpc.max_receive_message_length", -1)]) as channel:
        answered = pb.ModelInferResponse.FromString(channel.unary_unary(GRPC_PATH)(message.body))
    assert answered.raw_output_contents[0] == values.tobytes()


def values_of(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(2).random(shape).astype(np.float32)


def rest_request(shape: tuple[int, ...]) -> Request:
    """Binary tensors both ways."""
    data = values_of(shape).tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Request(REST_PATH, head + data, {"Inference-Header-Content-Length": str(len(head))})


def json_request(shape: tuple[int, ...]) -> Request:
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "data": values_of(shape).ravel()}
    return Request(REST_PATH, orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY), {})


def grpc_request(shape: tuple[int, ...]) -> Request:
    message = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[values_of(shape).tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=shape)
    return Request(GRPC_PATH, message.SerializeToString(), {})


# -- figures


def _started(here: Site, started_s: float) -> list[Figure]:
    return [_line("front, from its spawn to its first answers", started_s, "s", START_GOAL_S)]


def _in_json(here: Site, shape: tuple[int, ...]) -> list[Figure]:
    loads = [wrk(_port(here.rest), json_request(shape), 1) for _ in range(ROUNDS[1])]
    return [_line("rest, 600 KB in JSON both ways, p50", min(load.p50_us for load in loads) / 1e3, "ms", JSON_GOAL_MS)]


def _against_floor(name: str, kind: str, here: Site, request: Request) -> list[Figure]:
    with empty_server(kind, len(request.body)) as floor_port:  # an echo's answer is about as long as its request
        one, eight = (_pairs(kind, floor_port, here, request, callers) for callers in (1, CALLERS))
    return [*_latency(name, one), *_throughput(name, kind, eight)]


def _pairs(kind: str, floor_port: int, here: Site, request: Request, callers: int) -> list[Pair]:
    generate, port = GENERATORS[kind], _port(here.rest if kind == "rest" else here.grpc)
    return [Pair(generate(floor_port, request, callers), generate(port, request, callers)) for _ in range(ROUNDS[callers])]


def _latency(name: str, pairs: list[Pair]) -> list[Figure]:
    floor, front = (float(np.median([getattr(pair, side).p50_us for pair in pairs])) for side in ("floor", "front"))
    lines = [_line(f"{name}, one caller, empty server p50", floor, "us"), _line(f"{name}, one caller, front p50", front, "us")]
    if name.endswith("tiny"):
        arena = ping_pong_us(floor)
        against = f"{floor:.0f} us empty server + {arena:.0f} us ping-pong on two cores + {TINY_GOAL_US:g} us"
        return [*lines, _line(f"{name}, front p50 over the empty server's", front - floor, "us", arena + TINY_GOAL_US, against)]
    return [*lines, _line(f"{name}, front p50 by the empty server's", front / floor, "x", LARGE_GOAL, f"{floor:.0f} us empty server")]


def _throughput(name: str, kind: str, pairs: list[Pair]) -> list[Figure]:
    floor, front = (float(np.median([getattr(pair, side).rate for pair in pairs])) for side in ("floor", "front"))
    goal, share = SHARE_GOALS[kind], front / floor
    return [
        _line(f"{name}, eight callers, front", front, "requests/s", against=f"{floor:.0f}/s empty server"),
        {**_line(f"{name}, eight callers, share of the empty server's rate", share, ""), "goal": f">= {goal:g}", "holds": share >= goal},
    ]


def _line(name: str, value: float, unit: str, limit: float | None = None, against: str = "") -> Figure:
    goal, holds = ("", None) if limit is None else (f"<= {round(limit, 1):g}", value <= limit)
    return {"name": name, "value": round(value, 3), "unit": unit, "goal": goal, "holds": holds, "against": against}


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
