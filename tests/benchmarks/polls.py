"""Polls per second of a real skerry-control over keep-alive mutual TLS 1.3, one device, four connections.

h2load and wrk cannot present a client certificate, so the client is an asyncio protocol of our own on uvloop; it shares the
machine with the server. The floor is a bare ASGI application behind the same listener, measured in the same run.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.integration.control_process import REPO, ControlProcess, ScriptedDevice

CONNECTIONS, WARM_S, MEASURE_S = 4, 0.5, 3.0
GOAL_SHARE = 0.6  # of the floor: what authentication, revocation, heartbeat and expiry may cost
HAWKBIT_POLLS_S = 570  # PostgreSQL, measured on another day on this kind of machine
FLOOR = """
import asyncio, json, sys
from pathlib import Path
import uvloop
from control_plane.adapters.listeners import Listener, Listeners, server_tls

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", b"x")]})
    await send({"type": "http.response.body", "body": b""})

async def main(keys, public):
    tls = server_tls(keys / "server.crt", keys / "server.key", tuple(public / f"{n}.crt" for n in ("site-ca", "device-ca", "service-ca")))
    async with Listeners([Listener("floor", "127.0.0.1", 0, app, tls=tls)], 60) as ports:
        print(json.dumps(ports), flush=True)
        await asyncio.to_thread(sys.stdin.read)

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


async def _poll(port: int, tls: ssl.SSLContext, etag: str) -> tuple[float, list[int]]:
    """(polls per second, latencies in ns) over all connections; every answer must be 304."""
    request = f"GET /device/v1/director/timestamp.json HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {etag}\r\n\r\n".encode()
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    open_ = [
        await loop.create_connection(lambda: Poller(request, done), "127.0.0.1", port, ssl=tls, server_hostname="localhost")
        for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(WARM_S)
    before, started = [len(poller.latencies_ns) for _, poller in open_], loop.time()
    await asyncio.sleep(MEASURE_S)
    taken = [poller.latencies_ns[count:] for (_, poller), count in zip(open_, before, strict=True)]
    elapsed_s = loop.time() - started
    done.set()
    for transport, poller in open_:
        transport.close()
        assert poller.statuses == {b"304"}, poller.statuses
    await asyncio.sleep(0)
    return sum(map(len, taken)) / elapsed_s, sorted(one for some in taken for one in some)


def _measured(port: int, tls: ssl.SSLContext, etag: str) -> tuple[float, list[int]]:
    return uvloop.run(_poll(port, tls, etag))


def _floor(control: ControlProcess, tls: ssl.SSLContext) -> float:
    folders = [str(control.site.folder / "control/keys"), str(control.site.public)]
    with subprocess.Popen([sys.executable, "-c", FLOOR, *folders], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bare:
        assert bare.stdout is not None
        rate, _ = _measured(json.loads(bare.stdout.readline())["floor"], tls, "x")
        bare.communicate()
    return rate


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
            before = _floor(control, tls)
            rate, latencies_ns = _measured(control.ports["devices"], tls, etag)
            floor = max(before, _floor(control, tls))  # the machine's own speed wanders by a quarter from second to second
        finally:
            control.stop()
    p50_ms, p99_ms = (latencies_ns[int(len(latencies_ns) * share)] / 1e6 for share in (0.50, 0.99))
    against = f"bare ASGI behind the same listener, same run: {floor:.0f} polls/s"
    rounded = round(rate / floor, 2)
    return [
        _line("polls, mutual TLS kept alive", round(rate), "polls/s", f">= 5 x {HAWKBIT_POLLS_S}", rate >= 5 * HAWKBIT_POLLS_S, "hawkBit"),
        _line("polls, share of the floor", rounded, "", f">= {GOAL_SHARE}", rounded >= GOAL_SHARE, against),
        _line("poll p50", round(p50_ms, 3), "ms"),
        _line("poll p99", round(p99_ms, 3), "ms"),
    ]


def _line(name: str, value: float, unit: str, goal: str = "", holds: bool | None = None, against: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "goal": goal, "holds": holds, "against": against}


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
