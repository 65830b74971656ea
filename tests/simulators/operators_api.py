"""The operators' API as the CLI sees it: a real HTTP server, answers made of the contracts' models, and a log of requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from contracts.operator import CampaignView, DeviceView, EventView, KeyView, ModelView, Problem, ReleaseView, Trace
from contracts.release import ModelRegistration, ModelVersion, Release

TOKEN = "operator-token"
DEVICE = "dev-abcdefghijklmnopqrstuvwxyz"
BUNDLE = "4c1f9d6b0c6a4a2c8c6f1d0e9b7a5f3e2d1c0b9a8f7e6d5c4b3a291807f6e5d4"
FILES = ("model", "calibration", "held_out", "signature", "processing", "feature_schema")

VERSION = ModelVersion(
    name="digits_line", version=1, run="run:7", aliases=("candidate",),
    registration=ModelRegistration(
        **dict.fromkeys(FILES, "0" * 64), data_digest="dataset:sha256:" + "d" * 64,
        metrics={"accuracy": 0.936, "accuracy_low": 0.92, "accuracy_high": 0.949},
    ),
)  # fmt: skip
RELEASE = Release(name="digits_line", number=1, manifests={"x86-cpu-avx2": BUNDLE})
HOPS = (
    {"hop": "image", "store": "image repository", "id": "bundles/x86-cpu-avx2/digits_line-1.json", "ok": True, "detail": ""},
    {"hop": "run", "store": "model registry's run", "id": "run:7", "ok": True, "detail": ""},
)
WAVES: list[dict[str, Any]] = [
    {
        "number": 1, "state": "PASSED",
        "gates": [
            {"metric": "install_success", "limit": 1, "verdict": "passed", "value": 1.0, "samples": 1},
            {"metric": "agreement", "limit": 0.1, "verdict": "not_applicable", "reason": "no incumbent on these devices"},
        ],
        "executions": [
            {"id": f"first-1/{DEVICE}/1", "device": DEVICE, "kind": "install", "state": "CONFIRMED", "fence": 3, "target_digest": BUNDLE,
             "previous_digest": ""},
        ],
    },
    {
        "number": 2, "state": "OPEN",
        "gates": [
            {"metric": "latency_p95_us", "limit": 20000, "verdict": "waiting", "value": 431.0, "low": 362.0, "high": None, "samples": 60,
             "reason": "60 of 100 frames"},
            {"metric": "agreement", "limit": 0.1, "verdict": "passed", "value": 0.931, "low": 0.887, "high": 0.968, "passes_at": 0.832,
             "fails_at": 0.916, "samples": 160, "reason": "expected 0.932, margin 0.1"},
        ],
        "executions": [
            {"id": f"first-1/dev-{letter * 26}/1", "device": f"dev-{letter * 26}", "kind": "install", "state": state, "fence": 3,
             "target_digest": BUNDLE, "previous_digest": "", "code": code}
            for letter, state, code in (("b", "PROBATION", ""), ("c", "FAILED", "BUNDLE_NO_SPACE"))
        ],
    },
]  # fmt: skip


class OperatorsApi:
    """`answers` maps "METHOD path" to JSON, or to a function of the request's body; a test may replace any of them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, str, Any]] = []  # method, path, body
        self.if_match: list[str | None] = []  # of each request
        self.events = [
            EventView(
                seq=seq,
                utc="2026-11-01T12:00:00+00:00",
                event=event,
                subject="digits_line-1",
                actor="system",
                data={"n": seq},
                hash="0" * 64,
            )
            for seq, event in enumerate(("release_building", "release_built", "release_signed"), start=1)
        ]
        self.campaign = CampaignView.model_validate(
            {"id": "first-1", "name": "first", "release": "digits_line-1", "state": "RUNNING", "revision": 4,
             "waits_for": "wave 2: install_success", "waits_until_utc": "2026-11-01T13:00:00Z", "waves": WAVES}
        )  # fmt: skip
        self.answers: dict[str, Any] = {
            "GET /v1/models": [_model()], "GET /v1/models/digits_line": _model(),
            "PUT /v1/models/digits_line/aliases/candidate": _json(VERSION),
            "GET /v1/releases": [self.release()], "GET /v1/releases/digits_line-1": self.release(),
            "POST /v1/releases/digits_line-1/approval": self.release("SIGNED"),
            "POST /v1/enrolment-tokens": {"token": "skt1.secret.ca"},
            "GET /v1/devices": [_device()], f"GET /v1/devices/{DEVICE}": _device(), f"POST /v1/devices/{DEVICE}/approve": _device(),
            f"POST /v1/devices/{DEVICE}/revoke": _device("DECOMMISSIONED"),
            "POST /v1/campaigns": lambda _body: _json(self.campaign), "GET /v1/campaigns": lambda _body: [_json(self.campaign)],
            "GET /v1/campaigns/first-1": lambda _body: _json(self.campaign),
            **{
                f"POST /v1/campaigns/first-1/{act}": lambda _body, state=state: _json(self.campaign.model_copy(update={"state": state}))
                for act, state in (("pause", "PAUSED"), ("resume", "RUNNING"), ("abort", "ABORTED"))
            },
            f"GET /v1/trace/{BUNDLE}": self.trace(),
            "GET /v1/keys": [_json(KeyView(name="image/timestamp", version=3, expires_utc="2026-11-02T12:00:00+00:00"))],
            "GET /v1/status": {"version": "0.1.0", "devices": {"ACTIVE": 3, "PENDING": 0}},
        }  # fmt: skip

    def release(self, state: str = "SIGNED", **changed: Any) -> Any:
        view = {"id": "digits_line-1", "state": state, "model_version": VERSION.id, "release": _json(RELEASE), **changed}
        return _json(ReleaseView.model_validate(view))

    def trace(self, **changed: Any) -> Any:
        found = Trace(bundle=BUNDLE, target=str(HOPS[0]["id"]), model_version=VERSION, run="run:7", data=VERSION.registration.data_digest,
                      hops=HOPS, complete=True)  # fmt: skip
        return _json(found.model_copy(update=changed))

    def answer(self, method: str, target: str, token: str, body: Any) -> tuple[int, Any]:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        self.requests.append((method, path, body))
        if token != f"Bearer {TOKEN}":
            return 401, _problem("API_UNAUTHENTICATED", 401)
        if path == "/v1/events":
            return 200, [_json(line) for line in self.events if line.seq > int(query["after"][0])]
        found = self.answers.get(f"{method} {path}")
        if found is None:
            return 404, _problem("API_NOT_FOUND", 404, path)
        return 200, found(body) if callable(found) else found


def _json(model: Any) -> Any:
    return model.model_dump(mode="json")


def _model() -> Any:
    return _json(ModelView(name="digits_line", aliases={"candidate": 1}, versions=(VERSION,)))


def _device(state: str = "ACTIVE") -> Any:
    view = {"id": DEVICE, "state": state, "profile": "x86-cpu-avx2", "labels": {"line": "3"}, "running_digest": BUNDLE}
    return _json(DeviceView.model_validate(view))


def _problem(code: str, status: int, detail: str = "") -> Any:
    return _json(Problem(type=f"urn:skerry:error:{code}", title=code, status=status, code=code, detail=detail))


@contextmanager
def served() -> Iterator[OperatorsApi]:
    """The API on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            api.if_match.append(self.headers.get("If-Match"))
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = api.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _handle

        def log_message(self, format: str, *args: object) -> None:
            """The test reads `requests`; the terminal stays quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api = OperatorsApi(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="operators-api")
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
