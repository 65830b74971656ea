"""The one HTTP client of the device: mutual TLS 1.3, keep-alive, no redirects, no proxies, a total deadline and a lowest rate.

urllib3's timeouts hold for one read; a server that sends a byte now and then would keep us for ever. So the deadline and the
average rate are ours. Blocking: call it in a thread.
"""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, SystemTimeWarning
from urllib3.response import BaseHTTPResponse

from contracts.errors import SkerryError, TransientError, error
from edge_agent.config import NetworkConfig

PIECE_BYTES = 65536
warnings.simplefilter("ignore", SystemTimeWarning)  # TUF_CLOCK_BELOW_FLOOR says it, once and with a remedy


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """`new_context` gives an ssl.SSLContext; it is asked again after a renewal (`reconnect`)."""

    def __init__(self, new_context: Callable[[], Any], network: NetworkConfig, mono: Callable[[], float] = time.monotonic) -> None:
        self._new_context, self._network, self._mono = new_context, network, mono
        self._pool = self._new_pool()

    def _new_pool(self) -> urllib3.PoolManager:
        timeout = urllib3.Timeout(connect=self._network.connect_timeout_s, read=self._network.read_timeout_s)
        return urllib3.PoolManager(ssl_context=self._new_context(), retries=False, timeout=timeout, maxsize=4)

    def reconnect(self) -> None:
        """New connections use the certificate of now."""
        old, self._pool = self._pool, self._new_pool()
        old.clear()

    def close(self) -> None:
        self._pool.clear()

    def get(self, url: str, *, max_bytes: int, headers: Mapping[str, str] | None = None) -> Answer:
        """Any status is an answer. Raises TransientError API_UNREACHABLE or TUF_TOO_SLOW."""
        with self.stream("GET", url, headers=headers) as (answer, pieces):
            return Answer(answer.status, answer.headers, _joined(url, pieces, max_bytes))

    def post(self, url: str, body: bytes, *, max_bytes: int) -> Answer:
        headers = {"Content-Type": "application/json"}
        with self.stream("POST", url, headers=headers, body=body) as (answer, pieces):
            return Answer(answer.status, answer.headers, _joined(url, pieces, max_bytes))

    @contextlib.contextmanager
    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None, deadline_s: float | None = None
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """(answer without body, its pieces). The connection goes back to the pool only when it was read to its end."""
        began = self._mono()
        with _translated(url):
            response = self._pool.request(
                method, url, headers=dict(headers or {}), body=body, preload_content=False, redirect=False, decode_content=False
            )
        pieces = _Pieces(url, response, self._network, Pace(self._mono, began, deadline_s or self._network.metadata_deadline_s))
        try:
            yield Answer(response.status, response.headers, b""), pieces
        finally:
            pieces.finish()


@dataclass(frozen=True)
class Pace:
    mono: Callable[[], float]
    began: float
    deadline_s: float


class _Pieces:
    """The body, piece by piece. Only a connection whose answer was read to its end is used again."""

    def __init__(self, url: str, response: BaseHTTPResponse, network: NetworkConfig, pace: Pace) -> None:
        self._url, self._response, self._network, self._pace = url, response, network, pace
        self._received, self._ended = 0, False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with _translated(self._url):
            piece = self._response.read1(PIECE_BYTES)
        if not piece:
            self._ended = True
            raise StopIteration
        self._received += len(piece)
        self._check_pace()
        return piece

    def _check_pace(self) -> None:
        passed_s = self._pace.mono() - self._pace.began
        if passed_s > self._pace.deadline_s:
            raise error("TUF_TOO_SLOW", self._url, f"{self._received} bytes in {passed_s:.1f} s")
        if passed_s > self._network.rate_grace_s and self._received < passed_s * self._network.min_bytes_per_s:
            raise error("TUF_TOO_SLOW", self._url, f"{self._received / passed_s:.0f} bytes/s")

    def finish(self) -> None:
        if self._ended:
            self._response.drain_conn()  # reads nothing; lets http.client see the end
            self._response.release_conn()
        else:
            self._response.close()


def _joined(url: str, pieces: Iterator[bytes], max_bytes: int) -> bytes:
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > max_bytes:
            raise error("TUF_INVALID", url, f"longer than {max_bytes} bytes")
    return bytes(body)


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (HTTPError, OSError) as unreachable:
        raise error("API_UNREACHABLE", url, f"{type(unreachable).__name__}: {unreachable}") from unreachable


def expect(url: str, answer: Answer, *statuses: int) -> Answer:
    """The answer, when its status is one of those; else the error that tells the caller what to do."""
    if answer.status in statuses:
        return answer
    raise refusal(url, answer)


def refusal(url: str, answer: Answer) -> SkerryError:
    """Everything that a server may answer is tried again: a device never gives up its control plane."""
    retry = answer.headers.get("Retry-After", "")
    retry_after_s = float(retry) if retry.isdigit() else None
    return TransientError("API_UNREACHABLE", url, f"HTTP {answer.status} {answer.body[:200]!r}", retry_after_s)


def problem_of(answer: Answer) -> tuple[str, str]:
    """(code, detail) of a problem document, empty where the answer is none."""
    if answer.status < 400:
        return "", ""
    try:
        problem = json.loads(answer.body)
        return str(problem.get("code", "")), str(problem.get("detail", ""))
    except (ValueError, AttributeError):
        return "", ""
