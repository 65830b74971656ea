"""A real mosquitto for tests: TLS 1.3, client certificates as identity, the ACL of contracts/topics.py.

It can be killed and started again.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from contracts.topics import acl_file
from deploy.local.broker import LIMITS
from sync import mqtt
from tests.integration.certificates import Certificates

DEADLINE_S = 10.0
_CONFIG = """
per_listener_settings false
persistence false
{limits}\
log_dest stderr
log_type error
listener {port} 127.0.0.1
cafile {folder}/ca.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
require_certificate true
use_identity_as_username true
use_username_as_clientid true
tls_version tlsv1.3
acl_file {folder}/acl
allow_anonymous false
"""


class Mosquitto:
    def __init__(self, folder: Path, services: tuple[str, ...] = ("svc-ingest-1", "svc-control-1")) -> None:
        self.certificates = Certificates(folder)
        self.certificates.issue("broker", server=True)
        for service in services:
            self.certificates.issue(service)
        self.port = _free_port()
        (folder / "acl").write_text(acl_file(list(services)))
        (folder / "mosquitto.conf").write_text(_CONFIG.format(port=self.port, folder=folder, limits=LIMITS))
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it listens."""
        self._give_to_broker()
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        assert program is not None, "mosquitto is not installed: ./dev setup"
        log = self._folder / "mosquitto.log"
        with log.open("wb") as stderr:
            self._process = subprocess.Popen([program, "-c", str(self._folder / "mosquitto.conf")], stderr=stderr)
        for _ in range(int(DEADLINE_S / 0.02)):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
                raise AssertionError(f"mosquitto ended at start: {log.read_text()}")
        raise AssertionError("mosquitto does not listen")

    def kill(self) -> None:
        """SIGKILL: queues, sessions and retained messages are gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(DEADLINE_S)
            self._process = None

    def settings(self, client: str, subscriptions: tuple[str, ...] = (), **more: object) -> mqtt.Settings:
        tls = mqtt.tls_context(*(self.certificates.path(name) for name in ("ca.crt", f"{client}.crt", f"{client}.key")))
        return mqtt.Settings("127.0.0.1", self.port, client, subscriptions, tls, **more)  # type: ignore[arg-type]

    def _give_to_broker(self) -> None:
        """Started by root it drops to its own user before it opens these files."""
        if os.getuid() != 0:
            return
        user = pwd.getpwnam("mosquitto")
        for path in (self._folder, *self._folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)


def _free_port() -> int:
    """Below those that the kernel gives to whoever connects: one of these was sometimes taken before the broker had it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
