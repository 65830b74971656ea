"""Every route of every listener, asked with what no client of ours sends: a problem document of the 400s, no 500, no traceback."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.control_process import ControlProcess, Http, ScriptedDevice, running_control
from tests.integration.sync_site import until

control = running_control
HUGE = 10**30
WORDS = ("..", "%", "\0", "' OR 1=1 --", "\u202e", "x" * 300, "-1", str(HUGE), "0x7f", "null", "a/../../b", "\ud7ff")
BODIES: tuple[Any, ...] = (
    b"", b"{", b"null", b"[]", b"0", b'"x"', b"\xff", b"[" * 50_000, {"name": None}, {"name": "\0", "valid_s": HUGE}, {"version": HUGE},
    {"version": -1}, {"labels": {"a": {"b": []}}}, {"waves": [{"size": HUGE}], "name": "x", "release": "x-1"}, {"reports": HUGE},
    {"signature": "\ud7ff" * 50, "key_id": "x"}, {"alarms": [{"code": "X" * 5000}]},
)  # fmt: skip


def routes(control: ControlProcess) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(method, path template, parameters) of the operators' API, as it describes itself."""
    described = control.operators("GET", "/openapi.json").json
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation.get("parameters", [])


def filled(path: str, word: str) -> str:
    return re.sub(r"\{[^}]+\}", lambda _: quote(word, safe=""), path)


def addresses(path: str, parameters: list[dict[str, Any]]) -> Iterator[str]:
    """One thing is hostile at a time: else what is looked at first would hide the rest."""
    queries = [one["name"] for one in parameters if one["in"] == "query" and one["name"] != "wait_s"]
    for word in WORDS:
        yield filled(path, word)
        yield from (f"{filled(path, 'x-1')}?{name}={quote(word, safe='')}" for name in queries)


def check_answered(method: str, address: str, answer: Any) -> None:
    assert answer.status < 500 or answer.code in ("API_REGISTRY_UNREACHABLE", "SIGNER_UNREACHABLE"), (method, address, answer.body[:300])
    if answer.status >= 400 and method != "HEAD":
        assert {"code", "remedy"} <= answer.json.keys(), (method, address)


def ask(http: Http, method: str, path: str, parameters: list[dict[str, Any]]) -> int:
    """How many requests were made."""
    asked: list[tuple[str, bytes | None]] = [(address, None) for address in addresses(path, parameters)]
    if method in ("POST", "PUT"):
        asked += [(filled(path, "x-1"), body if isinstance(body, bytes) else json.dumps(body).encode()) for body in BODIES]
    for address, body in asked:
        check_answered(method, address, http(method, address, body, content_type="application/json"))
    return len(asked)


def check_no_traceback(control: ControlProcess) -> None:
    assert "Traceback" not in (control.folder / "control.log").read_text()


def test_the_operators_routes(control: ControlProcess) -> None:
    asked = sum(ask(control.operators, *route) for route in routes(control))
    assert asked > 300
    check_no_traceback(control)


DEVICES = (
    ("GET", "/device/v1/director/{file}"), ("GET", "/device/v1/image/{path}"), ("GET", "/device/v1/blobs/{sha256}"),
    ("HEAD", "/device/v1/blobs/{sha256}"), ("POST", "/device/v1/reports"), ("POST", "/device/v1/renewals"), ("DELETE", "/device/v1/{x}"),
)  # fmt: skip
INTERNAL = {
    "ingest": (("GET", "/internal/v1/devices"), ("GET", "/internal/v1/schemas/{id}"), ("POST", "/internal/v1/alarms")),
    "build": (
        ("GET", "/internal/v1/blobs/{sha256}"),
        ("PUT", "/internal/v1/blobs/{sha256}"),
        ("POST", "/internal/v1/builds/{id}/result"),
    ),
}
ENROLMENT = (("POST", "/enrol/v1/requests"), ("GET", "/enrol/v1/requests/{id}"))


def test_the_routes_of_devices_services_and_strangers(control: ControlProcess, tmp_path: Any) -> None:
    device = ScriptedDevice.enrol(control, tmp_path)
    since = [{"in": "query", "name": "since"}]
    for method, path in DEVICES:
        ask(device.http, method, path, [])
    for role, some in INTERNAL.items():
        for method, path in some:
            ask(control.service(role), method, path, since if path.endswith("devices") else [])
    for method, path in ENROLMENT:
        ask(control.enrolment, method, path, [])
    check_no_traceback(control)
    assert device.poll().status == 200


@pytest.mark.parametrize("promised", [10, 10**18])
def test_an_upload_that_breaks_off_is_no_news(control: ControlProcess, promised: int) -> None:
    token = (control.site.folder / "control/keys/operator.token").read_text().strip()
    head = f"PUT /v1/blobs/{'0' * 64} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {promised}\r\n\r\n"
    incoming = control.folder / "state/blobs/.incoming"
    with socket.create_connection(("127.0.0.1", control.ports["operators"])) as client:
        client.sendall(head.encode() + b"x")
        until(lambda: len(list(incoming.iterdir())) == 1, "the upload has begun")
    until(lambda: not list(incoming.iterdir()), "what it left is gone")
    assert control.operators("GET", "/v1/status").status == 200
    check_no_traceback(control)
