"""Who gets in where by which certificate, and what he reaches there: mosquitto with a site's own files, a device's own TLS client.

The worst certificates are made by who holds the device CA's key: the control plane, and whoever has taken it over.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contracts import topics
from contracts.ids import service_urn
from deploy.local.ports import Ports
from edge_agent.adapters.identity import server_only_tls
from sync import mqtt
from tests.integration.test_local_broker import ports as broker_ports
from tests.integration.test_local_broker import site as whole_site

site, ports = whole_site, broker_ports
DEVICE, OTHER = "dev-" + "a" * 26, "dev-" + "b" * 26
DEADLINE_S = 20.0
NOTHING = ("nothing",)  # a topic of nobody
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
TAKEN = (mqtt.SUCCESS, mqtt.NO_MATCHING_SUBSCRIBERS)


def minted(
    site: Path, name: str, usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH, san: x509.GeneralName | None = None
) -> Path:
    """A chain and key in one file, by the device CA, with any name: what its key allows, not what its program does."""
    ca = x509.load_pem_x509_certificate((site / "control/keys/device-ca.crt").read_bytes())
    ca_key = load_pem_private_key((site / "control/keys/device-ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([san or x509.UniformResourceIdentifier(f"urn:test:{len(name)}")]), critical=False)
    )
    leaf = builder.sign(ca_key, hashes.SHA256())
    path = site.parent / f"{x509.random_serial_number()}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + leaf.public_bytes(Encoding.PEM) + ca.public_bytes(Encoding.PEM))
    return path


def both(site: Path, name: str) -> Path:
    """Key and chain of a site's own certificate, in one file."""
    path = site.parent / f"{Path(name).name}.pem"
    path.write_bytes(b"".join((site / f"{name}.{part}").read_bytes() for part in ("key", "crt")))
    return path


class Client:
    """One connection to the broker."""

    def __init__(self, site: Path, port: int, certificate: Path, client_id: str = "any", subscriptions: tuple[str, ...] = NOTHING) -> None:
        tls = ssl.create_default_context(cafile=str(site / "public/site-ca.crt"))
        tls.load_cert_chain(certificate)
        self.events: queue.Queue[mqtt.Event] = queue.Queue()
        self._link = mqtt.dial(mqtt.Settings("localhost", port, client_id, subscriptions, tls), 1, self.events.put)
        self.first = self.events.get(timeout=DEADLINE_S)

    def publish(self, topic: str, payload: bytes = b"x", retain: bool = False) -> int:
        """The reason code of the PUBACK; NO_CONNECTION when the connection is gone."""
        self._link.publish(topic, payload, retain)
        while not isinstance(event := self.events.get(timeout=DEADLINE_S), mqtt.Published | mqtt.Lost):
            pass
        return event.reason

    def heard(self) -> mqtt.Message:
        while not isinstance(event := self.events.get(timeout=DEADLINE_S), mqtt.Message):
            pass
        return event

    def close(self) -> None:
        self._link.close()


@contextmanager
def connected(
    site: Path, port: int, certificate: Path, client_id: str = "any", subscriptions: tuple[str, ...] = NOTHING
) -> Iterator[Client]:
    client = Client(site, port, certificate, client_id, subscriptions)
    assert isinstance(client.first, mqtt.Connected), client.first
    yield client
    client.close()


@pytest.fixture(scope="module")
def port(ports: Ports) -> int:
    """Where devices come in."""
    return ports.mqtt


@pytest.fixture(scope="module")
def device(site: Path, port: int) -> Path:
    return minted(site, DEVICE)


@pytest.fixture(scope="module")
def other(site: Path, port: int) -> Path:
    return minted(site, OTHER)


# -- the broker


def test_a_device_writes_its_own_topics_and_no_others(site: Path, port: int, device: Path) -> None:
    with connected(site, port, device) as client:
        assert {client.publish(topics.up(DEVICE, "live")), client.publish(topics.state(DEVICE))} <= set(TAKEN)
        foreign = [topics.up(OTHER, "live"), topics.state(OTHER), topics.ack(DEVICE)]
        foreign += [topics.ack(OTHER), topics.nack(OTHER), topics.wake(OTHER)]
        assert {topic: client.publish(topic) for topic in foreign} == dict.fromkeys(foreign, mqtt.NOT_AUTHORIZED)


def test_a_device_hears_its_own_topics_and_no_others(site: Path, ports: Ports, device: Path) -> None:
    """A subscription to everything is granted by the broker; what is delivered counts."""
    control = both(site, "control/keys/svc-control-1")
    with connected(site, ports.mqtt, device, subscriptions=("#",)) as client, connected(site, ports.mqtt_services, control) as plane:
        assert plane.publish(topics.wake(OTHER)) in TAKEN
        assert plane.publish(topics.wake(DEVICE)) in TAKEN
        assert client.heard().topic == topics.wake(DEVICE)


def test_another_devices_client_id_evicts_nobody(site: Path, port: int, device: Path, other: Path) -> None:
    with connected(site, port, device) as victim, connected(site, port, other, client_id=DEVICE) as thief:
        assert thief.publish(topics.up(OTHER, "live")) in TAKEN
        assert victim.publish(topics.up(DEVICE, "live")) in TAKEN


@pytest.mark.parametrize("name", ["+", "#", f"{OTHER}/live", f"+/{OTHER}"])
def test_a_name_with_a_meaning_in_topics_reaches_nobody_elses(site: Path, port: int, name: str) -> None:
    client = Client(site, port, minted(site, name))
    for topic in (topics.up(OTHER, "live"), topics.ack(OTHER), topics.state(OTHER)):
        if isinstance(client.first, mqtt.Connected):
            assert client.publish(topic) in (mqtt.NOT_AUTHORIZED, mqtt.NO_CONNECTION)
    client.close()


def test_a_services_name_by_the_device_ca_is_worth_nothing(site: Path, ports: Ports) -> None:
    """Where services come in it is nobody; where devices come in it is a device that nobody knows."""
    impostor = minted(site, "svc-ingest-1", san=x509.UniformResourceIdentifier(service_urn("ingest")))
    refused = Client(site, ports.mqtt_services, impostor)
    assert isinstance(refused.first, mqtt.Lost)
    refused.close()
    with (
        connected(site, ports.mqtt, impostor, subscriptions=(topics.ALL_UP,)) as client,
        connected(site, ports.mqtt, minted(site, DEVICE)) as one,
    ):
        assert {client.publish(topic) for topic in (topics.ack(DEVICE), topics.up(DEVICE, "live"))} == {mqtt.NOT_AUTHORIZED}
        assert one.publish(topics.up(DEVICE, "live")) in TAKEN
        assert one.publish(topics.up(DEVICE, "live")) in TAKEN
        assert client.publish(topics.state("svc-ingest-1")) in TAKEN  # its turn has come: nothing was delivered before
        assert client.events.empty()


def test_a_service_does_not_come_in_where_devices_do(site: Path, ports: Ports) -> None:
    service = both(site, "ingest/keys/svc-ingest-1")
    wrong = Client(site, ports.mqtt, service)
    assert isinstance(wrong.first, mqtt.Lost)
    wrong.close()
    with connected(site, ports.mqtt_services, service) as ingest:
        assert ingest.publish(topics.ack(DEVICE)) in TAKEN


def test_a_device_does_not_come_in_where_services_do(site: Path, ports: Ports, device: Path) -> None:
    wrong = Client(site, ports.mqtt_services, device)
    assert isinstance(wrong.first, mqtt.Lost)
    wrong.close()


# -- servers


def test_the_device_ca_cannot_make_a_server(site: Path) -> None:
    """Neither a broker nor a control plane that a device would speak to: its intermediate is good for clients alone."""
    forged = minted(site, "localhost", SERVER, x509.DNSName("localhost"))
    assert _handshake(site, both(site, "control/keys/server")) == ""
    assert "purpose" in _handshake(site, forged)


def _handshake(site: Path, server_pem: Path) -> str:
    """What a device says of this server; "" when it takes it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(server_pem)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        server_only_tls((site / "public/site-ca.crt").read_text()).wrap_socket(ours, server_hostname="localhost").close()
    except ssl.SSLCertVerificationError as refused:
        return refused.verify_message
    finally:
        ours.close()
        thread.join(DEADLINE_S)
    return ""
