"""Polls per second of a real skerry-control over keep-alive mutual TLS 1.3, one device, four connections.

h2load and wrk cannot present a client certificate, so the client is an asyncio protocol of our own on uvloop; it shares the
machine with the server. (bombardier can; it is no part of this, and once said the same: docs/reference/measured.md.) The floor
is a bare ASGI application on uvicorn, httptools and uvloop behind the same listener. The two are measured in turn, and of each
the best round counts, since the machine's own speed wanders from second to second. The server's own CPU time for a poll wanders
less: the share is taken of that, and a change of the code is judged by it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.integration.control_process import REPO, ControlProcess, ScriptedDevice
from tests.integration.proc_stat import cpu_s

CONNECTIONS, WARM_S, MEASURE_S, ROUNDS = 4, 0.5, 2.0, 3
GOAL_POLLS_S = 2000  # on two cores
GOAL_SHARE = 0.6  # of the floor: what authentication, revocation, heartbeat and expiry may cost
HAWKBIT = "hawkBit on PostgreSQL, another day, such a machine: 570"
FLOOR = """
import asyncio, json, sys
from pathlib import Path
import uvloop
from control_plane.adapters.listeners import Listener, Listeners, server_tls
from program.memory import keep_freed

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", b"x")]})
    await send({"type": "http.response.body", "body": b""})

async def main(keys, public):
    tls = server_tls(keys / "server.crt", keys / "server.key", tuple(public / f"{n}.crt" for n in ("site-ca", "device-ca", "service-ca")))
    async with Listeners([Listener("floor", "127.0.0.1", 0, app, tls=tls)], 60) as ports:
        print(json.dumps(ports), flush=True)
        await asyncio.to_thread(sys.stdin.read)

keep_freed()
uvloop.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


class Poller(asyncio.Protocol):
    """One connection: the next request leaves when the answer is there. Times are kept as nanoseconds."""

    def __init__(self, request: bytes, done: asyncio.Event) -> None:
        self._request, self._done, self._answer = request, done, b""
        self.latencies_ns: list[int] = []
        self.statuses: set[bytes] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self._send()

    def _send(self) -> None:
        self._sent_ns = time.perf_counter_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(b"\r\n\r\n"):
            return
        self.latencies_ns.append(time.perf_counter_ns() - self._sent_ns)
        self.statuses.add(self._answer[9:12])
        self._answer = b""
        if not self._done.is_set():
            self._send()


@dataclass(frozen=True, order=True)
class Round:
    polls_s: float
    cpu_us: float  # of the server, for one poll
    latencies_ns: list[int]


async def _round(pid: int, port: int, tls: ssl.SSLContext, etag: str) -> Round:
    """Polls over all connections for MEASURE_S; every answer must be 304."""
    request = f"GET /device/v1/director/timestamp.json HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {etag}\r\n\r\n".encode()
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    open_ = [
        await loop.create_connection(lambda: Poller(request, done), "127.0.0.1", port, ssl=tls, server_hostname="localhost")
        for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(WARM_S)
    before, started, used_s = [len(poller.latencies_ns) for _, poller in open_], loop.time(), cpu_s(pid)
    await asyncio.sleep(MEASURE_S)
    taken = [poller.latencies_ns[count:] for (_, poller), count in zip(open_, before, strict=True)]
    elapsed_s, used_s = loop.time() - started, cpu_s(pid) - used_s
    done.set()
    for transport, poller in open_:
        transport.close()
        assert poller.statuses == {b"304"}, poller.statuses
    await asyncio.sleep(0)
    latencies_ns = sorted(one for some in taken for one in some)
    return Round(len(latencies_ns) / elapsed_s, 1e6 * used_s / len(latencies_ns), latencies_ns)


def _floor(control: ControlProcess, tls: ssl.SSLContext) -> Round:
    folders = [str(control.site.folder / "control/keys"), str(control.site.public)]
    command = [sys.executable, "-c", FLOOR, *folders]
    with subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bare:
        assert bare.stdout is not None
        measured = uvloop.run(_round(bare.pid, json.loads(bare.stdout.readline())["floor"], tls, "x"))
        bare.communicate()
    return measured


def _client_tls(control: ControlProcess, folder: Path, device: str) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=str(control.ca))
    tls.load_cert_chain(folder / f"{device}.crt", folder / f"{device}.key")
    return tls


def figures() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        control = ControlProcess(folder).start()
        try:
            device = ScriptedDevice.enrol(control, folder)
            control.operators("GET", "/v1/models")  # answers when the model registry is open, which would disturb the measurement
            etag = device.poll().headers["etag"]
            tls = _client_tls(control, folder, device.id)
            port, pairs = control.ports["devices"], []
            for _ in range(ROUNDS):
                pairs.append((_floor(control, tls), uvloop.run(_round(control.pid, port, tls, etag))))
        finally:
            control.stop()
    return _lines([floor for floor, _ in pairs], [ours for _, ours in pairs])


def _lines(floors: list[Round], ours: list[Round]) -> list[dict[str, Any]]:
    floor, best = max(floors), max(ours)
    p50_ms, p99_ms = (best.latencies_ns[int(len(best.latencies_ns) * share)] / 1e6 for share in (0.50, 0.99))
    cpu_us, floor_us = (min(one.cpu_us for one in rounds) for rounds in (ours, floors))
    share, polls = round(floor_us / cpu_us, 2), round(best.polls_s)
    against = f"bare ASGI behind the same listener, same run: {floor.polls_s:.0f} polls/s, {floor_us:.1f} us"
    return [
        _line("polls, mutual TLS kept alive", polls, "polls/s", f">= {GOAL_POLLS_S}", polls >= GOAL_POLLS_S, HAWKBIT),
        _line("poll, the server's CPU", round(cpu_us, 1), "us", against=against),
        _line("poll, the floor's share of that CPU", share, "", f">= {GOAL_SHARE}", share >= GOAL_SHARE, against),
        _line("poll p50", round(p50_ms, 3), "ms"),
        _line("poll p99", round(p99_ms, 3), "ms"),
    ]


def _line(name: str, value: float, unit: str, goal: str = "", holds: bool | None = None, against: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "goal": goal, "holds": holds, "against": against}


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
