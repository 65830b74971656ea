"""A control plane's device side over real HTTPS with mutual TLS: both TUF repositories signed for real, blobs with Range,
reports, enrolment. It can be bent: slow answers, replaced files, lost names, lies in HTTP (lies.py). It keeps a log of requests.
With its faults off it passes the production's own contract suite (tests/contract/test_device_api.py).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import ssl
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets

from contracts.assignment import Assignment
from contracts.enrolment import EnrolmentAnswer, Pins
from contracts.ids import device_urn
from control_plane.ceremony import ceremony, roles
from control_plane.ceremony.certificates import Identity as Authority
from control_plane.ceremony.layout import Site
from control_plane.signer.publisher import role_of
from tests.simulators.bundle_bytes import PROFILE, BundleBytes
from tests.simulators.lies import Lie

DEVICE = "dev-" + "a" * 26


def make_site(folder: Path, profile: str = PROFILE) -> Site:
    site = Site(folder / "site")
    ceremony.make_site(site, [profile], "localhost", datetime.now(timezone.utc))
    return site


def _copied(template: Site, folder: Path) -> Site:
    shutil.copytree(template.folder, folder / "site")
    return Site(folder / "site")


class Cloud:
    """`files`: path below /device/v1 -> bytes, laid over what is published; None = 404."""

    def __init__(self, folder: Path, template: Site | None = None, profile: str = PROFILE) -> None:
        self.site = make_site(folder, profile) if template is None else _copied(template, folder)
        self.profile = profile
        self.blobs: dict[str, bytes] = {}
        self.files: dict[str, bytes | None] = {}
        self.requests: list[tuple[str, str, int]] = []  # method, path, status
        self.reports: list[dict[str, Any]] = []
        self.refuse_reports = False
        self.pending_approvals = 0  # how often enrolment answers 202 first
        self.piece_delay_s, self.piece_bytes = 0.0, 1 << 20
        self.cut_after: int | None = None  # bytes of a blob after which the connection is cut, once
        self.lie: tuple[str, Lie] | None = None  # beginning of a path below /device/v1, and what is done with its answers
        self.lied = 0
        self.connections = 0
        self._director_version = 0
        self._bundles: dict[str, TargetFile] = {}
        self._serve()

    # -- publishing

    def assign(self, assignment: Assignment, *, version: int | None = None, expires: timedelta = timedelta(days=1)) -> None:
        self._director_version = version or self._director_version + 1
        number, key, now = self._director_version, self._key("control/keys/director.pem"), datetime.now(timezone.utc)
        raw = assignment.model_dump_json().encode()
        targets = Targets(number, "1.0.31", (now + timedelta(days=30)).replace(microsecond=0), {})
        targets.targets["assignment.json"] = TargetFile.from_data("assignment.json", raw, ["sha256"])
        self.files |= {
            "director/assignment.json": raw,
            "director/targets.json": _signed(targets, key),
            "director/snapshot.json": roles.snapshot(number, {"targets": number}, key, now),
            "director/timestamp.json": roles.timestamp(number, number, key, now, expires),
        }

    def publish(self, bundle: BundleBytes) -> None:
        """Into the image repository, signed by the profile's role, and its blobs."""
        self.blobs |= bundle.blobs
        self._bundles[bundle.path] = TargetFile.from_data(bundle.path, bundle.manifest, ["sha256"])
        self.sign_image()

    def sign_image(self, role_key: CryptoSigner | None = None) -> None:
        now, role = datetime.now(timezone.utc), role_of(self.profile)
        number = 1 + max(int(path.name.split(".")[0]) for path in self.site.image.glob(f"*.{role}.json"))
        targets = Targets(number, "1.0.31", (now + timedelta(days=30)).replace(microsecond=0), dict(self._bundles))
        signed = _signed(targets, role_key or self._key(f"signer/keys/profile-{self.profile}.pem"))
        self.site.write(f"signer/image/{number}.{role}.json", signed)
        snapshot_key, timestamp_key = (self._key(f"signer/keys/{one}.pem") for one in ("snapshot", "timestamp"))
        self.site.write(f"signer/image/{number}.snapshot.json", roles.snapshot(number, {"targets": 1, role: number}, snapshot_key, now))
        self.site.write("signer/image/timestamp.json", roles.timestamp(number, number, timestamp_key, now))

    def rotate(self, repository: ceremony.Repo) -> int:
        return ceremony.rotate_root(self.site, repository, datetime.now(timezone.utc))

    def _key(self, name: str) -> CryptoSigner:
        return roles.signer_from_pem(self.site.read(name))

    def pins(self) -> Pins:
        return Pins(
            server_ca_pem=self.site.read("public/site-ca.crt").decode(),
            device_ca_pem=self.site.read("public/device-ca.crt").decode(),
            image_root=_base64(self.site.read("public/image-root.json")),
            director_root=_base64(self.site.read("public/director-root.json")),
            model_signing_keys={"training": self.site.read("public/model-signing.pub.pem").decode()},
            broker_host="127.0.0.1",
            broker_port=8883,
            control_url=self.url,
        )

    def ca_sha256(self) -> str:
        root = x509.load_pem_x509_certificate(self.site.read("public/site-ca.crt"))
        return root.fingerprint(hashes.SHA256()).hex()

    def grant(self, csr_pem: str, device: str = DEVICE, life: timedelta = timedelta(days=7)) -> EnrolmentAnswer:
        certificate = self.issue(x509.load_pem_x509_csr(csr_pem.encode()).public_key(), device, life)
        return EnrolmentAnswer(device=device, certificate_pem=certificate, pins=self.pins())

    def issue(self, public_key: Any, device: str, life: timedelta) -> str:
        ca = Authority.from_pem(self.site.read("control/keys/device-ca.crt"), self.site.read("control/keys/device-ca.key"))
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)]))
            .issuer_name(ca.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + life)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(device_urn(device))]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        )
        return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode() + ca.certificate_pem.decode()

    # -- serving

    def _serve(self) -> None:
        self._server = _Server(self, self._context(client=True))
        self._enrolment = _Server(self, self._context(client=False))
        self.url = f"https://localhost:{self._server.server_address[1]}"
        self.enrolment = f"localhost:{self._enrolment.server_address[1]}"
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in (self._server, self._enrolment)]
        for thread in self._threads:
            thread.start()

    def _context(self, client: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.site.folder / "control/keys/server.crt", self.site.folder / "control/keys/server.key")
        if client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.site.read("broker/devices-ca.crt").decode())
        return context

    def close(self) -> None:
        for server in (self._server, self._enrolment):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def asked(self, path: str) -> int:
        return sum(1 for _, asked, _ in self.requests if asked.endswith(path))

    def content(self, path: str) -> bytes | None:
        if path in self.files:
            return self.files[path]
        kind, _, name = path.partition("/")
        if kind == "blobs":
            return self.blobs.get(name)
        file = (self.site.image if kind == "image" else self.site.director) / name
        return file.read_bytes() if file.is_file() else None

    def take_reports(self, batch: dict[str, Any]) -> dict[str, Any]:
        accepted: dict[str, int] = {}
        for report in batch["reports"]:
            have = sum(1 for one in self.reports if one["execution"] == report["execution"])
            if report["seq"] == have + 1:
                self.reports.append(report)
        for report in self.reports:
            accepted[report["execution"]] = max(accepted.get(report["execution"], 0), report["seq"])
        return {"accepted": accepted}


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, cloud: Cloud, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cloud = cloud
        self._context, self._open = context, set[Any]()

    def get_request(self) -> tuple[Any, Any]:
        plain, address = self.socket.accept()
        plain.settimeout(10)
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request_thread(request, client_address)
        self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up, and some are refused in the handshake: that is their test's business."""

    def server_close(self) -> None:
        for request in list(self._open):
            try:
                request.shutdown(2)
            except OSError:
                continue
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def cloud(self) -> Cloud:
        server: Any = self.server
        return server.cloud  # type: ignore[no-any-return]

    def setup(self) -> None:
        super().setup()
        self.cloud.connections += 1

    def log_message(self, format: str, *arguments: object) -> None:
        """The cloud keeps its own log."""

    def do_GET(self) -> None:
        if self.path.startswith("/enrol/"):
            return self._answer(*_enrolled(self.cloud, None))
        body = self.cloud.content(self.path.removeprefix("/device/v1/"))
        if body is None:
            return self._answer(404, b"{}")
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        if self.headers.get("If-None-Match") == etag:
            return self._answer(304, b"", etag)
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and int(start[1]) >= len(body):
            return self._answer(416, b"")
        if start:
            return self._answer(206, body[int(start[1]) :], etag)
        return self._answer(200, body, etag)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/enrol/v1/requests":
            return self._answer(*_enrolled(self.cloud, body))
        if self.path.endswith("/renewals"):
            return self._answer(201, self.cloud.grant(body["csr_pem"]).model_dump_json().encode())
        if self.cloud.refuse_reports:
            return self._answer(503, b"{}")
        return self._answer(200, json.dumps(self.cloud.take_reports(body)).encode())

    def _answer(self, status: int, body: bytes, etag: str = "") -> None:
        self.cloud.requests.append((self.command, self.path, status))
        if self.cloud.lie and self.path.startswith(f"/device/v1/{self.cloud.lie[0]}"):
            self.cloud.lied += 1
            self.cloud.lie[1](self, body)
            return
        self.send_response(status)
        if etag:
            self.send_header("ETag", etag)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if "/blobs/" in self.path and self.cloud.cut_after is not None:
            body, self.cloud.cut_after = body[: self.cloud.cut_after], None
            self.close_connection = True
        for at in range(0, len(body), self.cloud.piece_bytes):
            self.wfile.write(body[at : at + self.cloud.piece_bytes])
            if self.cloud.piece_delay_s:
                time.sleep(self.cloud.piece_delay_s)  # a slow server is slow by the clock


def _enrolled(cloud: Cloud, request: dict[str, Any] | None) -> tuple[int, bytes]:
    """One request at a time is enough: the last one asked is the one that is granted."""
    if request is not None:
        cloud.files["enrolment"] = json.dumps(request).encode()
    if request is not None and "spent" in request["token"]:
        return 403, b'{"code": "ENROL_TOKEN_SPENT", "detail": "used on Monday"}'
    if cloud.pending_approvals:
        cloud.pending_approvals -= 1
        return 202, b'{"request_id": "r-1"}'
    kept = json.loads(cloud.files["enrolment"] or b"{}")
    return 201, cloud.grant(kept["csr_pem"]).model_dump_json().encode()


def _signed(targets: Targets, key: CryptoSigner) -> bytes:
    metadata: Metadata[Any] = Metadata(targets)
    metadata.sign(key)
    return metadata.to_bytes()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def empty(folder: Path) -> None:
    """What a bad day does to a cache."""
    shutil.rmtree(folder)
