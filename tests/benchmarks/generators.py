"""Load from prepared requests, by programs that are faster than what they measure: wrk for REST, h2load for gRPC.

Each caller has a connection of its own and one request on its way.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

SECONDS = 2  # whole: neither program takes a fraction
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}
_LUA = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
{headers}
"""


@dataclass(frozen=True)
class Load:
    rate: float  # answers per second
    p50_us: float


class Request(NamedTuple):
    """`path`: of the URL. `body`: for gRPC one message, without its five bytes of length."""

    path: str
    body: bytes
    headers: Mapping[str, str]


def wrk(port: int, request: Request, callers: int) -> Load:
    """Raises AssertionError when an answer is not 2xx."""
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder) / "body", Path(folder) / "request.lua"
        body.write_bytes(request.body)
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in request.headers.items())
        script.write_text(_LUA.format(body=body, headers=headers))
        said = _run("wrk", "-t1", f"-c{callers}", f"-d{SECONDS}s", "--latency", f"-s{script}", f"http://127.0.0.1:{port}{request.path}")
    assert "Non-2xx" not in said, said
    assert "Socket errors" not in said, said
    return wrk_said(said)


def wrk_said(said: str) -> Load:
    rate, (p50, unit) = _found(r"Requests/sec:\s+([\d.]+)", said)[0], _found(r"\s50%\s+([\d.]+)(us|ms|s)", said)
    return Load(float(rate), float(p50) * _UNITS[unit])


def h2load(port: int, request: Request, callers: int) -> Load:
    """Raises AssertionError when a request fails. Whether the answer is an error of gRPC's it cannot see: ask once before."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(b"\0" + len(request.body).to_bytes(4, "big") + request.body)
        headers = {"content-type": "application/grpc", "te": "trailers", **request.headers}
        lines = [f"-H{name}: {value}" for name, value in headers.items()]
        url = f"http://127.0.0.1:{port}{request.path}"
        said = _run("h2load", f"-c{callers}", "-m1", "-t1", f"-D{SECONDS}", f"-d{body}", f"--log-file={log}", *lines, url)
        times_us = [int(line.split()[2]) for line in log.read_text().splitlines()]
    failed, errored, timed_out = (int(_found(rf"(\d+) {what}", said)[0]) for what in ("failed", "errored", "timeout"))
    assert failed == errored == timed_out == 0, said
    return Load(float(_found(r"([\d.]+) req/s", said)[0]), float(np.median(times_us)))


def _found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    assert match, f"no {pattern!r} in: {text}"
    return match.groups()


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
