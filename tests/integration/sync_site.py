"""A small real site for the sync path: mosquitto, the registry's routes, ingest as a process, devices with outbox and uplink."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contracts.errors import SkerryError
from contracts.features import FRAME_COLUMNS, Column, FeatureSchema
from program.clock import SystemClock
from signatures.ed25519 import SigningKey
from sync.ingest.status import FILE_NAME
from sync.mqtt import tls_context
from sync.uplink.outbox import Outbox
from sync.uplink.uplink import Uplink, UplinkSettings
from sync.uplink.window import Delays
from tests.integration.mosquitto import Mosquitto
from tests.integration.registry_server import RegistryServer

REPO = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
DIGEST = "d" * 64
IMPATIENT = Delays(0.5, 2.0)  # so that a test sees batches come again
SCHEMA = FeatureSchema(
    family="sync", columns=(*FRAME_COLUMNS, Column(name="label", type="i16", min=0, max=9), Column(name="score", type="f32", min=0, max=1))
)


def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for an event that another process brings about; the test fails when it does not come in time."""
    pause = threading.Event()
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        pause.wait(0.005)


def rows_of(first_frame: int, count: int) -> list[list[Any]]:
    return [[first_frame + i, 1_700_000_000_000_000 + i, i, i % 10, 0.5] for i in range(count)]


def new_key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.generate())


class Device:
    """Outbox and uplink as the agent has them, on a loop in a thread."""

    def __init__(
        self,
        site: SyncSite,
        name: str,
        budgets: dict[str, int] | None = None,
        folder: Path | None = None,
        reserve_bytes: int = 0,
        silence: Delays = IMPATIENT,
    ) -> None:
        self.id, self.key, self.site, self._silence = name, new_key(), site, silence
        site.broker.certificates.issue(name)
        site.registry.know(name, {self.key.key_id: self.key.public})
        self.outbox = Outbox(
            (folder or site.folder) / f"{name}.db",
            device=name,
            boot_id="boot-1",
            key=self.key,
            budgets=budgets or {"live": 64 << 20},
            clock=SystemClock(),
            reserve_bytes=reserve_bytes,
        )
        self.alarms: list[SkerryError] = []
        self.nacks: list[str] = []
        self.wakes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stop = asyncio.Event()
        self._running: Future[None] | None = None
        self.uplink: Uplink = self._make_uplink()

    def start(self) -> None:
        self._running = asyncio.run_coroutine_threadsafe(self.uplink.run(self._stop), self._loop)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        if self._running is not None:
            self._running.result(DEADLINE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()
        self.outbox.close()

    def accept(self, rows: list[list[Any]], lane: str = "live") -> None:
        self.outbox.accept(lane, SCHEMA, DIGEST, rows)
        self.uplink.nudge()

    def drained(self) -> bool:
        return all(entry.acked_seq == entry.accepted_seq for entry in self.outbox.ledger().values())

    def _make_uplink(self) -> Uplink:
        certificates = self.site.broker.certificates
        settings = UplinkSettings(
            "127.0.0.1", self.site.broker.port, silence=self._silence, reconnect=Delays(0.1, 0.5), first_contact_s=0.0
        )  # fmt: skip

        def waken() -> None:
            self.wakes += 1

        return Uplink(
            self.outbox,
            settings,
            tls=lambda: tls_context(certificates.path("ca.crt"), certificates.path(f"{self.id}.crt"), certificates.path(f"{self.id}.key")),
            ack_keys=lambda: {self.site.ack_key.key_id: self.site.ack_key.public},
            on_wake=waken,
            on_alarm=self.alarms.append,
            on_nack=lambda nack: self.nacks.append(nack.code),
        )


class SyncSite:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        self.folder = folder
        (folder / "broker").mkdir()
        (folder / "broker").chmod(0o755)
        self.broker = Mosquitto(folder / "broker")
        self.registry = RegistryServer(self.broker.certificates)
        self.registry.learn(SCHEMA)
        self.lake, self.run_dir = folder / "lake", folder / "run"
        private = Ed25519PrivateKey.generate()
        self.ack_key = SigningKey(private)
        (folder / "ack.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._config = folder / "ingest.toml"
        self._ingest: subprocess.Popen[bytes] | None = None
        self._log = (folder / "ingest.log").open("ab")
        self._devices: list[Device] = []

    def device(
        self,
        letter: str,
        budgets: dict[str, int] | None = None,
        folder: Path | None = None,
        reserve_bytes: int = 0,
        silence: Delays = IMPATIENT,
    ) -> Device:
        """`folder`: where its outbox lies, by default beside everything else."""
        self._devices.append(Device(self, "dev-" + letter * 26, budgets, folder, reserve_bytes, silence))
        return self._devices[-1]

    def start_ingest(self, flush_s: float = 0.3) -> None:
        """Returns when it is subscribed."""
        names = {"ca": "ca.crt", "certificate": "svc-ingest-1.crt", "key": "svc-ingest-1.key"}
        values = {name: self.broker.certificates.path(path) for name, path in names.items()}
        values |= {"control_url": self.registry.url, "broker_host": "127.0.0.1", "lake_dir": str(self.lake)}
        values |= {"ack_key": str(self.folder / "ack.pem"), "state_dir": str(self.folder / "state"), "run_dir": str(self.run_dir)}
        numbers = {"broker_port": self.broker.port, "flush_s": flush_s, "registry_retry_s": 0.1}
        lines = [f"{name} = {json.dumps(value)}" for name, value in {**values, **numbers}.items()]
        self._config.write_text("\n".join(lines))
        (self.run_dir / FILE_NAME).unlink(missing_ok=True)
        self._ingest = subprocess.Popen(
            [sys.executable, "-m", "sync.ingest", "run", "--config", str(self._config)], cwd=REPO, stderr=self._log
        )
        until(lambda: bool(self.figures().get("connected")), "ingest is connected")

    def figures(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.run_dir / FILE_NAME).read_text())
            return found
        return {}

    def kill_ingest(self) -> None:
        assert self._ingest is not None
        self._ingest.send_signal(signal.SIGKILL)
        self._ingest.wait(DEADLINE_S)
        self._ingest = None

    def stop_ingest(self) -> int:
        """SIGTERM; the return code."""
        assert self._ingest is not None
        self._ingest.terminate()
        code = self._ingest.wait(DEADLINE_S)
        self._ingest = None
        return code

    def audit(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "sync.ingest", "audit", "--json", "--lake", str(self.lake)]
        done = subprocess.run(command, cwd=REPO, check=False, capture_output=True, timeout=DEADLINE_S)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def close(self) -> None:
        for device in self._devices:
            device.stop()
        if self._ingest is not None:
            self.kill_ingest()
        self._log.close()
        self.registry.close()
        self.broker.kill()
