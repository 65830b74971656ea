"""The control plane's build desk over real mutual TLS: hands out jobs, keeps blobs, takes results. It can lie and fall ill.

`serve(desk, certificate, key, client_ca)` runs it on a port of its own; what it saw stands in the desk.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from contracts.canonical import canonical_json, sha256_hex
from contracts.operator import Problem
from contracts.release import BuildJob, BuildResult


@dataclass
class Desk:
    jobs: list[BuildJob] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    results: dict[str, BuildResult] = field(default_factory=dict)
    callers: set[str] = field(default_factory=set)
    refuse_results: str = ""  # code that the next result is refused with
    ill: int = 0  # so many requests are answered with 503
    answered: threading.Event = field(default_factory=threading.Event)

    def get(self, path: str) -> tuple[int, bytes]:
        if path == "/internal/v1/builds/next":
            waiting = [job for job in self.jobs if job.id not in self.results]
            return (200, canonical_json(waiting[0].model_dump(mode="json"))) if waiting else (204, b"")
        digest = path.removeprefix("/internal/v1/blobs/")
        return (200, self.blobs[digest]) if digest in self.blobs else _problem(404, "API_NOT_FOUND")

    def put(self, path: str, body: bytes) -> tuple[int, bytes]:
        digest = path.removeprefix("/internal/v1/blobs/")
        if sha256_hex(body) != digest:
            return _problem(422, "API_DIGEST")
        self.blobs[digest] = body
        return 201, b""

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self.refuse_results:
            code, self.refuse_results = self.refuse_results, ""
            return _problem(422, code)
        self.results[path.split("/")[-2]] = BuildResult.model_validate_json(body)
        self.answered.set()
        return 204, b""


def _problem(status: int, code: str) -> tuple[int, bytes]:
    return status, canonical_json(Problem(type="about:blank", title=code, status=status, code=code).model_dump(mode="json"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _DeskServer

    def do_GET(self) -> None:
        self._answer(*self.server.desk.get(self.path))

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self._answer(*self.server.desk.put(self.path, self._body()))

    def do_POST(self) -> None:
        self._answer(*self.server.desk.post(self.path, self._body()))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, body: bytes) -> None:
        self.server.desk.callers.add(self._caller())
        if self.server.desk.ill:
            self.server.desk.ill -= 1
            status, body = 503, b""
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _caller(self) -> str:
        assert isinstance(self.connection, ssl.SSLSocket)
        peer: Any = self.connection.getpeercert()  # {"subject": ((("commonName", "svc-build-1"),),), ...}
        return str(dict(pair for [pair] in peer["subject"])["commonName"])

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the desk keeps what was asked."""


class _DeskServer(ThreadingHTTPServer):
    daemon_threads = True
    desk: Desk


@contextmanager
def serve(desk: Desk, certificate: Path, key: Path, client_ca: Path) -> Iterator[str]:
    """The desk's URL while it is up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with _DeskServer(("127.0.0.1", 0), _Handler) as server:
        server.desk = desk
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"https://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
