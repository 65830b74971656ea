"""Who has taken over the control plane: he has its address, its TLS key, its director key and its database, and answers in its place.

    python -m deploy.local.attackers.director --port P --site DIR --database FILE --device dev-... --other dev-... --lie NAME

He signs for real, as the director, and lies to one device: `older` metadata than it has seen, `expired` ones, or the assignment of
`other` (misrouted). Everybody else gets 503. Prints `{"ready": true}`, then what he served to whom; runs until he is killed.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from contracts.assignment import ASSIGNMENT_TARGET, Assignment
from contracts.canonical import canonical_json

PREFIX = "/device/v1/director/"
LIFE = timedelta(days=1)


@dataclass(frozen=True)
class Lie:
    """`version`: beside the one that the device has seen. `issued`: beside now."""

    version: int
    issued: timedelta
    misrouted: bool = False


LIES = {
    "older": Lie(-10, timedelta()),
    "expired": Lie(+1, -2 * LIFE),
    "misrouted": Lie(+2, timedelta(), misrouted=True),
}


def files(signer: CryptoSigner, lie: Lie, seen_version: int, device: str, other: str) -> dict[str, bytes]:
    """A director repository of one device, signed for real, with a lie in it."""
    version, issued = seen_version + lie.version, datetime.now(timezone.utc) + lie.issued
    expires = (issued + LIFE).replace(microsecond=0)
    named = other if lie.misrouted else device
    assignment = Assignment(device=named, desired_generation=version, issued_at=issued, kind="none")
    content = canonical_json(assignment.model_dump(mode="json"))
    targets = Targets(version=version, expires=expires)
    targets.targets[ASSIGNMENT_TARGET] = TargetFile.from_data(ASSIGNMENT_TARGET, content, ["sha256"])
    snapshot = Snapshot(version=version, expires=expires, meta={"targets.json": MetaFile(version)})
    timestamp = Timestamp(version=version, expires=expires, snapshot_meta=MetaFile(version))
    return {ASSIGNMENT_TARGET: content, **{f"{role.type}.json": _signed(role, signer) for role in (targets, snapshot, timestamp)}}


def _signed(role: Targets | Snapshot | Timestamp, signer: CryptoSigner) -> bytes:
    metadata: Metadata[Any] = Metadata(role)
    metadata.sign(signer)
    return metadata.to_bytes()


def seen_version(database: Path, device: str) -> int:
    with sqlite3.connect(database) as control:
        return int(control.execute("SELECT director_version FROM desired WHERE device = ?", (device,)).fetchone()[0])


def director_key(site: Path) -> CryptoSigner:
    key = load_pem_private_key((site / "control/keys/director.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return CryptoSigner(key)


class Impostor(ThreadingHTTPServer):
    """The devices' listener, with the control plane's own certificate."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, site: Path, device: str, served: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.device, self.served, self.roots = device, served, site / "control/director"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(site / "control/keys/server.crt", site / "control/keys/server.key")
        context.verify_mode = ssl.CERT_REQUIRED
        for name in ("site-ca", "device-ca"):
            context.load_verify_locations(site / f"public/{name}.crt")
        # the handshake takes place in the connection's own thread, at its first read
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up, or are refused in the handshake."""

    def content(self, name: str) -> bytes | None:
        root = self.roots / name
        return self.served.get(name) or (root.read_bytes() if name.endswith(".root.json") and root.is_file() else None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Impostor

    def do_GET(self) -> None:
        asks = _common_name(self.connection)
        if asks != self.server.device or not self.path.startswith(PREFIX):
            self._answer(503, b"{}")
            return
        name = self.path.removeprefix(PREFIX)
        body = self.server.content(name)
        self._answer(404 if body is None else 200, body or b"{}")
        print(json.dumps({"asked": name, "served": body is not None}), flush=True)

    def do_POST(self) -> None:
        self.close_connection = True
        self._answer(503, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """What counts is printed above."""


def _common_name(connection: Any) -> str:
    parts = dict(pair for rdn in connection.getpeercert().get("subject", ()) for pair in rdn)
    return str(parts.get("commonName", ""))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.attackers.director", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--site", type=Path, required=True, help="the site's folder, as far as the control plane's user can read it")
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--other", required=True)
    parser.add_argument("--lie", choices=sorted(LIES), required=True)
    options = parser.parse_args()
    version = seen_version(options.database, options.device)
    served = files(director_key(options.site), LIES[options.lie], version, options.device, options.other)
    with Impostor(options.port, options.site, options.device, served) as impostor:
        print(json.dumps({"ready": True}), flush=True)
        impostor.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
