"""The front against other model servers for Python, with the same models, sessions, load and machine: `./dev bench inference --peers`.

Each peer has an environment of its own from a lock file (peers/*.txt) and is written as its own pages advise (peers/serve_*.py), binary
where it can be; one worker each, as ours. Compared is the best way into each: REST or gRPC. All wait while one is asked.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.inference.host import HostSettings
from edge_agent.inference.oip.link import LinkSettings
from tests.benchmarks import models
from tests.benchmarks.bare import bare
from tests.benchmarks.front import GENERATORS, SPIN_US, grpc_request, json_request, rest_request, values_of
from tests.benchmarks.generators import Load, Request
from tests.benchmarks.inference_floor import Measured, slot_of
from tests.integration.oip_process import Site

Figure = dict[str, Any]
HERE = Path(__file__).parent / "peers"
ENVIRONMENTS = Path(sys.prefix).resolve().parent / "peers"
OURS = "skerry"
GOAL, CALLERS, ROUNDS, START_S, STOP_S, LOOK_S = 2.0, 8, 2, 120.0, 15.0, 0.2
MEASURED = (Measured("tiny MLP", models.mlp, (1, 64), 1), Measured("600 KB, a mean and a layer", models.pooled, (1, 3, 224, 224), 1))
_BOUNDARY = "peer"


def _raw(shape: tuple[int, ...]) -> Request:
    return Request("/predict", values_of(shape).tobytes(), {"Content-Type": "application/octet-stream"})


def _form(shape: tuple[int, ...]) -> Request:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="x"; filename="x"\r\nContent-Type: application/octet-stream\r\n\r\n'
    body = head.encode() + values_of(shape).tobytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return Request("/predict", body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})


def _json(shape: tuple[int, ...]) -> Request:
    return json_request(shape)._replace(headers={"Content-Type": "application/json"})


# peer -> way -> the request
PEERS: Mapping[str, Mapping[str, Callable[[tuple[int, ...]], Request]]] = {
    "kserve": {"rest": rest_request, "grpc": grpc_request},
    "bentoml": {"rest": _raw},
    "mlserver": {"rest": _json, "grpc": grpc_request},
    "litserve": {"rest": _form},
}


@dataclass
class Server:
    name: str
    ports: Mapping[str, int]
    requests: Mapping[str, Request]
    one: dict[str, list[Load]] = field(default_factory=dict)
    eight: dict[str, list[Load]] = field(default_factory=dict)

    def measure(self) -> None:
        for way, request in self.requests.items():
            for callers, loads in ((1, self.one), (CALLERS, self.eight)):
                loads.setdefault(way, []).append(GENERATORS[way](self.ports[way], request, callers))

    def p50_us(self) -> tuple[float, str]:
        return min((min(load.p50_us for load in loads), way) for way, loads in self.one.items())

    def rate(self) -> tuple[float, str]:
        return max((max(load.rate for load in loads), way) for way, loads in self.eight.items())


def figures() -> list[Figure]:
    installed = {name: version for name in PEERS if (version := _installed(name))}
    missing = [_line(f"{name} could not be installed", 0, "") for name in PEERS if name not in installed]
    return [*missing, *(line for measured in MEASURED for line in _of(measured, installed))]


# -- environments


def _installed(name: str) -> str:
    """Its version; "" when it cannot be had here: pip says why on standard error."""
    lock, folder = HERE / f"{name}.txt", ENVIRONMENTS / name
    want, mark, python = hashlib.sha256(lock.read_bytes()).hexdigest(), folder / "lock.sha256", folder / "bin" / "python"
    if not mark.exists() or mark.read_text() != want:
        print(f"installing {name} ...", file=sys.stderr, flush=True)
        pip = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--no-deps",
            "-r",
            str(lock),
        ]
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
            if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
                return ""
        mark.write_text(want)
    ask = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([str(python), "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


# -- servers


@contextmanager
def _peer(name: str, model: Path, shape: tuple[int, ...]) -> Iterator[Server]:
    rest, grpc, _ = ports = _free_ports()
    command = [str(ENVIRONMENTS / name / "bin" / "python"), str(HERE / f"serve_{name}.py"), str(model), *map(str, ports)]
    requests = {way: make(shape) for way, make in PEERS[name].items()}
    with open(model.parent / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(process, rest, requests["rest"], Path(log.name))
        yield Server(name, {"rest": rest, "grpc": grpc}, requests)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """First with its own children in its own way: BentoML's are in no group of ours."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_ports() -> list[int]:
    """For REST, gRPC, metrics: they are free a moment longer than we look."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        return [int(one.getsockname()[1]) for one in sockets]


def _wait(process: subprocess.Popen[bytes], port: int, request: Request, log: Path) -> None:
    until = time.monotonic() + START_S
    while not _answers(port, request):
        try:
            process.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() < until:
                continue
        raise AssertionError(f"{process.args!r} does not answer: {log.read_text()[-2000:]}")


def _answers(port: int, request: Request) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def _ours(folder: Path, measured: Measured) -> Iterator[tuple[Server, float]]:
    """And the bare loop's p50 in microseconds."""
    slot = slot_of(folder / "slots", measured)
    loop_us = _bare_us(bare(slot[1], slot[2]))
    here = Site(folder, slot, {}, HostSettings(cells_per_seat=CALLERS, spin_us=SPIN_US), LinkSettings())
    try:
        here.start()
        ports = {"rest": int(here.rest.rpartition(":")[2]), "grpc": int(here.grpc.rpartition(":")[2])}
        yield Server(OURS, ports, {"rest": rest_request(measured.shape), "grpc": grpc_request(measured.shape)}), loop_us
    finally:
        here.close()


def _bare_us(compute: Callable[[], object]) -> float:
    times = []
    for _ in range(500):
        began = time.perf_counter_ns()
        compute()
        times.append((time.perf_counter_ns() - began) / 1e3)
    return float(np.median(times))


# -- figures


def _of(measured: Measured, installed: Mapping[str, str]) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        ours, loop_us = stack.enter_context(_ours(folder, measured))
        model = folder / "model.onnx"
        model.write_bytes(measured.model())
        peers = [stack.enter_context(_peer(peer, model, measured.shape)) for peer in installed]
        for _ in range(ROUNDS):
            for server in (ours, *peers):
                print(f"  asking {server.name}: {measured.name}", file=sys.stderr, flush=True)
                server.measure()
    lines = [_line(f"{measured.name}, bare loop p50", loop_us, "us")]
    return [*lines, *(line for server in (ours, *peers) for line in _against(measured.name, server, ours, loop_us, installed))]


def _against(model: str, server: Server, ours: Server, loop_us: float, installed: Mapping[str, str]) -> list[Figure]:
    (p50_us, way), (rate, fast_way) = server.p50_us(), server.rate()
    named = f"{model}, {server.name} {installed.get(server.name, '')}".strip()
    lines = [
        _line(f"{named}, one caller, over the bare loop ({way})", p50_us - loop_us, "us"),
        _line(f"{named}, eight callers ({fast_way})", rate, "requests/s"),
    ]
    if server is ours:
        return lines
    overhead = (p50_us - loop_us) / (ours.p50_us()[0] - loop_us)
    return [
        *lines,
        _ratio(f"{named}, its overhead by ours", overhead),
        _ratio(f"{named}, our rate by its", ours.rate()[0] / rate),
    ]


def _line(name: str, value: float, unit: str) -> Figure:
    return {"name": name, "value": round(value, 1), "unit": unit, "goal": "", "holds": None, "against": ""}


def _ratio(name: str, value: float) -> Figure:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": "x",
        "goal": f">= {GOAL:g}",
        "holds": value >= GOAL,
        "against": "one worker each",
    }


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
