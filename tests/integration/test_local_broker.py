"""mosquitto with the configuration that a local site gets: TLS 1.3 and a certificate for everybody, names from certificates, the ACL."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from contracts import topics
from deploy.local import broker
from deploy.local.ports import Ports
from deploy.local.processes import Owner
from deploy.local.site import SERVICES, unit_of
from deploy.local.supervisor import Program, Supervisor
from program.clock import SystemClock

DEVICE = "dev-" + "a" * 26
DEADLINE_S = 10.0
# Started by root mosquitto would give up root and could not read its own files: it never is.
OWNER = Owner(59_999, 59_999) if os.getuid() == 0 else None
NOT_AUTHORIZED = 0x87
CONNECT = bytes.fromhex("100e00044d5154540502003c00000161")
GRANTED = (0x00, 0x10)  # taken; taken, and nobody listens


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """What the ceremony makes, where another uid can reach it: the same files that a real site has."""
    with tempfile.TemporaryDirectory(prefix="skerry-broker-") as folder:
        Path(folder).chmod(0o755)
        owner = ["--owner", f"broker={OWNER.uid}:{OWNER.gid}"] if OWNER else []
        made = Path(folder) / "site"
        argv = [sys.executable, "-m", "control_plane.ceremony", "init", str(made), "--profiles", "x86-cpu-avx2", *owner]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
        yield made


@pytest.fixture(scope="module")
def ports(site: Path) -> Iterator[Ports]:
    """The broker under the supervisor, as the unit file says; it goes on while the tests hold the thread."""
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        free = Ports(mqtt=one.getsockname()[1], mqtt_services=other.getsockname()[1])
    broker.write(site.parent, free, site / "broker", SERVICES, OWNER)
    supervisor = Supervisor(site.parent, SystemClock())

    async def start() -> None:
        await supervisor.__aenter__()
        supervisor.add(Program("broker", unit_of("broker"), {"/etc/skerry": str(site.parent)}, OWNER, site.parent))
        await supervisor.start("broker")

    with asyncio.Runner() as runner:
        try:
            runner.run(start())
            yield free
        finally:
            runner.run(supervisor.stop_all())


def _context(site: Path, role: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(site / "public/site-ca.crt"))
    context.maximum_version = version
    if role:
        context.load_cert_chain(site / role / f"keys/svc-{role}-1.crt", site / role / f"keys/svc-{role}-1.key")
    return context


def _publish(site: Path, ports: Ports, role: str, topic: str) -> int:
    """The reason code of the PUBACK."""
    codes: list[int] = []

    def connected(*_: Any) -> None:
        client.publish(topic, b"", qos=1)

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="anything", protocol=paho.MQTTv5)
    client.tls_set_context(_context(site, role))

    def published(_client: Any, _data: Any, _mid: int, code: Any, _properties: Any) -> None:
        codes.append(code.value)
        client.disconnect()

    client.on_connect = connected
    client.on_publish = published
    client.connect("localhost", ports.mqtt_services)
    client.loop_forever(timeout=DEADLINE_S)
    return codes[0]


def test_a_service_reaches_its_topics_and_no_others(site: Path, ports: Ports) -> None:
    assert _publish(site, ports, "ingest", topics.ack(DEVICE)) in GRANTED
    assert _publish(site, ports, "ingest", topics.up(DEVICE, "live")) == NOT_AUTHORIZED
    assert _publish(site, ports, "control", topics.wake(DEVICE)) in GRANTED
    assert _publish(site, ports, "control", topics.nack(DEVICE)) == NOT_AUTHORIZED


@pytest.mark.parametrize(("role", "version"), [(None, ssl.TLSVersion.TLSv1_3), ("ingest", ssl.TLSVersion.TLSv1_2)])
def test_without_a_certificate_or_with_old_tls_nobody_gets_in(site: Path, ports: Ports, role: str | None, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError):
        _say_hello(ports.mqtt_services, _context(site, role, version))


def _say_hello(port: int, context: ssl.SSLContext) -> bytes:
    """With TLS 1.3 a client learns of a refusal at its first read."""
    with (
        socket.create_connection(("localhost", port), DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(CONNECT)
        return secured.recv(4)


def test_the_same_hello_is_answered_when_the_certificate_is_there(site: Path, ports: Ports) -> None:
    assert _say_hello(ports.mqtt_services, _context(site, "ingest"))[:1] == b"\x20"  # CONNACK


def test_the_files_are_private(site: Path, ports: Ports) -> None:
    assert ports
    for name in ("mosquitto.conf", broker.DEVICES_ACL, broker.SERVICES_ACL):
        assert (site.parent / name).stat().st_mode & 0o077 == 0
    assert (site.parent / "mosquitto.conf").stat().st_uid == (OWNER.uid if OWNER else os.getuid())
