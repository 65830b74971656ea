"""A real skerry-control on a real site, and scripted devices that talk to it by mutual TLS with keys of their own.

Signed bundles are written into its database, in place of model registry, builder and signer.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from contracts.canonical import CONTEXT_BATCH_KEY
from contracts.manifest import Manifest
from contracts.operator import EventView
from contracts.states import State
from control_plane.ceremony.ceremony import make_site
from control_plane.ceremony.layout import Site
from control_plane.store import releases
from control_plane.store.base import Database, make_engine
from control_plane.store.releases import ReleaseRow
from processing import latency
from tests.simulators.bundle_bytes import PROFILE, BundleBytes

REPO = Path(__file__).resolve().parents[2]
START_S = 60.0


class Answer:
    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.data

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json.get("code", ""))


class Http:
    """Keep-alive connections to one listener; `identity` is (certificate chain, key) as files."""

    def __init__(
        self, base: str, ca: Path | None = None, identity: tuple[Path, Path] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        context = ssl.create_default_context(cafile=str(ca)) if ca else None
        if context and identity:
            context.load_cert_chain(*identity)
        self._pool, self._base, self._headers = urllib3.PoolManager(ssl_context=context, retries=False), base, headers or {}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if content is not None and not isinstance(body, bytes) else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Answer(self._pool.request(method, self._base + path, body=content, headers={**self._headers, **kind, **named}, timeout=30))

    def close(self) -> None:
        self._pool.clear()


class NotifySocket:
    """The supervisor's end of sd_notify: it must be read for as long as the program lives."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.address = f"{self._folder.name}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while message := self._socket.recv(4096):
            if b"READY=1" in message or b"STOPPING=1" in message:
                self.ready.set()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join(5)
        self._socket.close()
        self._folder.cleanup()


class ControlProcess:
    """`python -m control_plane` as a child; its folders live under `folder` and outlast it. Without a `site` it makes one."""

    def __init__(self, folder: Path, site: Site | None = None, **config: Any) -> None:
        self.folder, self._extra = folder, config
        self.site = site or Site(folder / "site", ())
        if site is None:
            make_site(self.site, (PROFILE,), "localhost", datetime.now(timezone.utc))
        self.config = folder / "control.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Http] = []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ca(self) -> Path:
        return self.site.public / "site-ca.crt"

    def start(self) -> ControlProcess:
        keys = self.site.folder / "control"
        values = {
            "state_dir": self.folder / "state", "run_dir": self.folder / "run", "operators_port": 0, "devices_port": 0, "enrolment_port": 0,
            "devices_host": "127.0.0.1", "enrolment_host": "127.0.0.1", "keys_dir": keys / "keys", "director_dir": keys / "director",
            "public_dir": self.site.public, "image_repo_dir": self.site.image, "signer_socket": self.folder / "signer.sock", **self._extra,
        }  # fmt: skip
        self.config.write_text(
            "".join(f"{key} = {json.dumps(value if isinstance(value, int | float) else str(value))}\n" for key, value in values.items())
        )
        self._supervisor = NotifySocket()
        with (self.folder / "control.log").open("ab") as log:
            command = [sys.executable, "-m", "control_plane", "--config", str(self.config)]
            environment = {**os.environ, "NOTIFY_SOCKET": self._supervisor.address}
            self._process = subprocess.Popen(command, cwd=REPO, stderr=log, env=environment)
        assert self._supervisor.ready.wait(START_S), (self.folder / "control.log").read_text()[-3000:]
        self.ports: dict[str, int] = json.loads((self.folder / "run/control.ports.json").read_text())
        token = self.site.folder.joinpath("control/keys/operator.token").read_text().strip()
        self.operators = self._client(Http(f"http://127.0.0.1:{self.ports['operators']}", headers={"Authorization": f"Bearer {token}"}))
        self.enrolment = self._client(Http(f"https://localhost:{self.ports['enrolment']}", self.ca))
        return self

    def _client(self, client: Http) -> Http:
        self._clients.append(client)
        return client

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end("terminate")

    def kill(self) -> int:
        return self._end("kill")

    def _end(self, how: str) -> int:
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self._process is None:
            return 0
        getattr(self._process, how)()
        status, self._process = self._process.wait(20), None
        self._supervisor.close()
        return status

    def devices(self, identity: tuple[Path, Path] | None) -> Http:
        """A client of the devices' listener."""
        return self._client(Http(f"https://localhost:{self.ports['devices']}", self.ca, identity))

    def service(self, role: str) -> Http:
        keys = self.site.folder / role / "keys"
        return self.devices((keys / f"svc-{role}-1.crt", keys / f"svc-{role}-1.key"))

    def token(self, **request: Any) -> str:
        return str(self.operators("POST", "/v1/enrolment-tokens", request).json["token"])

    @contextmanager
    def database(self) -> Iterator[Database]:
        database = Database(make_engine(f"sqlite:///{self.folder / 'state/skerry.db'}"))
        yield database
        database.close()

    def sign(self, bundle: BundleBytes, release: str) -> str:
        """Lay a signed bundle down as if it had come all the way; its digest."""
        name, _, number = release.rpartition("-")
        manifest = Manifest.model_validate_json(bundle.manifest)
        with self.database() as database, database.write() as session:
            session.add(
                ReleaseRow(
                    id=release, name=name, number=int(number), state="SIGNED", model_version=manifest.model_version,
                    created_utc=datetime.now(timezone.utc),
                )
            )  # fmt: skip
            session.flush()
            releases.add_signed(session, release, bundle.digest, bundle.manifest, manifest)
        return bundle.digest

    def events(self, after: int = 0, wait_s: float = 0) -> list[dict[str, Any]]:
        answer = self.operators("GET", f"/v1/events?after={after}&limit=1000&wait_s={wait_s}")
        return list(answer.json)

    def event(self, name: str, deadline_s: float = 20, **data: Any) -> dict[str, Any]:
        """The first event of this name whose data holds all of `data`; waits by long poll."""
        after, deadline = 0, time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            for line in self.events(after, wait_s=2):
                after = line["seq"]
                if line["event"] == name and data.items() <= line["data"].items():
                    return line
        raise AssertionError(f"no event {name} {data}")


def csr(key: ec.EllipticCurvePrivateKey | Any, common_name: str = "skerry-device") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def batch_key(identity: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    public = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    signature = identity.sign(CONTEXT_BATCH_KEY + public, ec.ECDSA(hashes.SHA256()))
    return {"public_key": public.hex(), "signature": base64.b64encode(signature).decode()}


def enrolment_request(token: str, key: ec.EllipticCurvePrivateKey, **inventory: str) -> dict[str, Any]:
    return {"token": token, "csr_pem": csr(key), "batch_key": batch_key(key), "inventory": {"profile": PROFILE, **inventory}}


@dataclass
class ScriptedDevice:
    """Speaks /device/v1 with its own certificate and does what the test says. Reports are numbered per execution."""

    control: ControlProcess
    id: str
    http: Http
    key: ec.EllipticCurvePrivateKey
    running: str = ""
    seq: dict[str, int] = field(default_factory=dict)

    @classmethod
    def enrol(cls, control: ControlProcess, folder: Path, **token: Any) -> ScriptedDevice:
        key = ec.generate_private_key(ec.SECP256R1())
        answer = control.enrolment("POST", "/enrol/v1/requests", enrolment_request(control.token(**token), key))
        assert answer.status == 201, answer.body
        return cls.with_certificate(control, folder, answer.json["device"], answer.json["certificate_pem"], key)

    @classmethod
    def with_certificate(
        cls, control: ControlProcess, folder: Path, device: str, pem: str, key: ec.EllipticCurvePrivateKey
    ) -> ScriptedDevice:
        return cls(control, device, control.devices(store(folder, device, pem, key)), key)

    def poll(self, etag: str = "") -> Answer:
        return self.http("GET", "/device/v1/director/timestamp.json", **({"If_None_Match": etag} if etag else {}))

    def assignment(self) -> dict[str, Any]:
        return dict(self.http("GET", "/device/v1/director/assignment.json").json)

    def report(self, execution: str, *some: dict[str, Any], fence: int) -> Answer:
        stamp = {"fence": fence, "boot_id": "boot", "mono_ms": 1, "utc": "2026-01-01T00:00:00Z", "bundle_digest": self.running}
        numbered = []
        for one in some:
            self.seq[execution] = self.seq.get(execution, 0) + 1
            numbered.append({**stamp, "execution": execution, "seq": self.seq[execution], **one})
        hello = {"agent_version": "0.1.0", "profile": PROFILE, "running_digest": self.running, "ledger": {"s": 7}}
        return self.http("POST", "/device/v1/reports", {"device": self.id, "hello": hello, "reports": numbered})

    def install(self, *, us: float = 300, frames: int = 120, end: State = State.CONFIRMED, code: str = "") -> dict[str, Any]:
        """Carry out the present assignment to its end, as an agent would report it; the assignment."""
        order = self.assignment()
        execution, fence, target = order["execution"], order["fence"], order["components"][0]["sha256"]
        before = [State.OFFERED, State.DOWNLOADING, State.STAGED, State.BUILDING_ENGINE, State.ACTIVATING]
        assert self.report(execution, *({"kind": "transition", "state": state.value} for state in before), fence=fence).status == 200
        previous, self.running = self.running, target
        counts = latency.empty()
        counts[latency.bucket(us)] = frames
        window = {
            "kind": "window",
            "duration_s": 5,
            "frames": frames,
            "accepted_rows": frames,
            "refused": 0,
            "not_finite": 0,
            "latency": counts,
        }
        self.report(execution, {"kind": "transition", "state": "PROBATION"}, {**window, "probation": True}, fence=fence)
        self.running = target if end is State.CONFIRMED else previous
        assert self.report(execution, {"kind": "transition", "state": end.value, "code": code}, fence=fence).status == 200
        return order


def decided_after_s(log: list[EventView], campaign: str) -> list[float]:
    """Of each wave that PASSED: the time since the last report that made one of its devices CONFIRMED."""
    last, taken = datetime.now(timezone.utc), []
    for line in log:
        if line.event == "execution_moved" and line.subject.startswith(campaign) and line.data["state"] == "CONFIRMED":
            last = datetime.fromisoformat(line.utc)
        if line.event == "wave_moved" and line.subject == campaign and line.data["state"] == "PASSED":
            taken.append((datetime.fromisoformat(line.utc) - last).total_seconds())
    return taken


def store(folder: Path, name: str, certificate_pem: str, key: Any) -> tuple[Path, Path]:
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_text(certificate_pem)
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def check_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["remedy"]


@pytest.fixture(scope="module", name="control")
def running_control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    """One process for the tests of a module."""
    running = ControlProcess(tmp_path_factory.mktemp("control"), poll_interval_s=7).start()
    yield running
    assert running.stop() == 0, "SIGTERM ends it cleanly"
