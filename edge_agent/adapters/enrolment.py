"""Enrolment: a one-time token against a certificate and the pins.

The token carries the sha256 of the site's CA. The device looks for that certificate in the chain that the server presents,
before it sends a byte of its own; then it connects anew, with that CA as the only trust anchor, and speaks.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contracts.enrolment import EnrolmentAnswer, EnrolmentPending, EnrolmentRequest, Token
from contracts.errors import CODES, error
from edge_agent.adapters.http import Answer, Http, problem_of, refusal
from edge_agent.adapters.identity import Identity, server_only_tls
from edge_agent.adapters.new_keys import NewKeys, keep
from edge_agent.config import NetworkConfig
from program.disk import writing
from program.files import write_durably

MAX_ANSWER_BYTES = 256 * 1024
PENDING = "enrolment.json"  # keys, and the request's id once there is one
POLL_S = 2.0


def enrol(
    server: str, token: Token, folder: Path, inventory: dict[str, Any], *, network: NetworkConfig, wait: Callable[[float], object]
) -> Identity:
    """`server` is HOST:PORT. Waits for approval by asking again after `wait(seconds)`; a second call takes up a pending request.

    The keys are on disk before the token is spent by them: an answer that is lost, or that finds a full disk, can be asked for again.
    Raises RejectedError ENROL_*, TrustError ENROL_SERVER_UNKNOWN, TransientError ENROL_UNREACHABLE, LocalFaultError SETUP_STATE_DISK.
    """
    host, port = _address(server)
    ca_pem = presented_ca(host, port, token.ca_sha256, network.connect_timeout_s)
    http = Http(lambda: server_only_tls(ca_pem), network)
    try:
        keys, request_id = _pending(folder)
        _remember(folder, keys, request_id)
        base = f"https://{server}/enrol/v1/requests"
        answer = (
            _ask(http, base, token, keys, inventory) if not request_id else http.get(f"{base}/{request_id}", max_bytes=MAX_ANSWER_BYTES)
        )
        while answer.status == 202:
            request_id = EnrolmentPending.model_validate_json(answer.body).request_id
            _remember(folder, keys, request_id)
            wait(POLL_S)
            answer = http.get(f"{base}/{request_id}", max_bytes=MAX_ANSWER_BYTES)
        granted = _granted(base, answer)
    finally:
        http.close()
    identity = keep(folder, keys, granted, granted.pins)
    (folder / PENDING).unlink(missing_ok=True)
    return identity


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise error("CONFIG_INVALID", f"--server {server}", "is not HOST:PORT")
    return host.strip("[]"), int(port)


def presented_ca(host: str, port: int, ca_sha256: str, timeout_s: float) -> str:
    """PEM of the certificate with that DER digest in the presented chain. Raises ENROL_SERVER_UNKNOWN, ENROL_UNREACHABLE."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent or believed on this connection
    try:
        with socket.create_connection((host, port), timeout_s) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
            chain = _chain(tls)
    except OSError as unreachable:
        raise error("ENROL_UNREACHABLE", f"{host}:{port}", str(unreachable)) from unreachable
    for der in chain:
        if hashlib.sha256(der).hexdigest() == ca_sha256:
            return ssl.DER_cert_to_PEM_cert(der)
    raise error("ENROL_SERVER_UNKNOWN", f"{host}:{port}", "the token's CA is not in the server's chain")


def _chain(tls: ssl.SSLSocket) -> list[bytes]:
    """DER of the presented chain, unverified. Public from Python 3.13 on; before, the same call lies one level down."""
    source: Any = tls if hasattr(tls, "get_unverified_chain") else tls._sslobj  # type: ignore[attr-defined]
    return [bytes(one) if isinstance(one, bytes) else _der(one) for one in source.get_unverified_chain() or ()]


def _der(certificate: Any) -> bytes:
    pem: str = certificate.public_bytes()
    return ssl.PEM_cert_to_DER_cert(pem)


def _pending(folder: Path) -> tuple[NewKeys, str]:
    try:
        kept = json.loads((folder / PENDING).read_bytes())
    except FileNotFoundError:
        return NewKeys.make(), ""
    return NewKeys(kept["identity_pem"].encode(), kept["batch_pem"].encode()), kept["request_id"]


def _remember(folder: Path, keys: NewKeys, request_id: str) -> None:
    kept = {"identity_pem": keys.identity_pem.decode(), "batch_pem": keys.batch_pem.decode(), "request_id": request_id}
    with writing("SETUP_STATE_DISK", folder, "keeping the keys before they are used"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(folder / PENDING, json.dumps(kept).encode(), 0o600)


def _ask(http: Http, url: str, token: Token, keys: NewKeys, inventory: dict[str, Any]) -> Answer:
    request = EnrolmentRequest(token=str(token), csr_pem=keys.csr_pem(), batch_key=keys.batch_key(), inventory=inventory)
    return http.post(url, request.model_dump_json().encode(), max_bytes=MAX_ANSWER_BYTES)


def _granted(url: str, answer: Answer) -> EnrolmentAnswer:
    if answer.status in (200, 201):
        try:
            return EnrolmentAnswer.model_validate_json(answer.body)
        except ValidationError as invalid:
            raise error("ENROL_UNREACHABLE", url, f"an answer that cannot be read: {invalid.errors()[0]['msg']}") from invalid
    code, detail = problem_of(answer)
    if code.startswith("ENROL_") and code in CODES:
        raise error(code, url, detail)
    raise error("ENROL_UNREACHABLE", url, str(refusal(url, answer)))
