"""The peer of a mutual TLS connection reaches the application's scope: the same cases over both HTTP implementations."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contracts.canonical import sha256_hex
from control_plane.adapters.certificates import DeviceCa, parse_request
from control_plane.adapters.listeners import Listener, Listeners, server_tls
from control_plane.adapters.peer_certificate import Issuers, Peer, h11_protocol, httptools_protocol, identify
from control_plane.ceremony.ceremony import make_site
from control_plane.ceremony.layout import Site
from control_plane.services.pins import certificate
from tests.integration.control_process import csr

DEVICE = "dev-" + "a" * 26
Protocol = Callable[[Issuers], type[asyncio.Protocol]]


class Place:
    """A site with one device's certificate."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(timezone.utc)
        self.site = Site(folder / "site", ())
        make_site(self.site, ("x86-cpu-avx2",), "localhost", now)
        self.keys = folder / "site/control/keys"
        key = ec.generate_private_key(ec.SECP256R1())
        ca = DeviceCa(self.keys / "device-ca.key", self.keys / "device-ca.crt")
        issued = ca.issue(parse_request(csr(key)), DEVICE, now, timedelta(days=1))
        self.chain, self.key = folder / "device.crt", folder / "device.key"
        self.chain.write_text(issued.chain_pem)
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.issuers = Issuers(ca.certificate, certificate(self.site.public / "service-ca.crt"))
        self.fingerprint = issued.fingerprint

    async def seen(self, protocol: Protocol, chain: Path, key: Path) -> list[Peer | None]:
        """What the application sees in two requests on one connection."""
        peers: list[Peer | None] = []

        async def app(scope: Any, _receive: Any, send: Any) -> None:
            peers.append(scope["state"]["peer"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        authorities = tuple(self.site.public / f"{name}.crt" for name in ("site-ca", "device-ca", "service-ca"))
        tls = server_tls(self.keys / "server.crt", self.keys / "server.key", authorities)
        async with Listeners([Listener("devices", "127.0.0.1", 0, app, protocol(self.issuers), tls)], 5) as ports:
            client = ssl.create_default_context(cafile=str(authorities[0]))
            client.load_cert_chain(chain, key)
            reader, writer = await asyncio.open_connection("127.0.0.1", ports["devices"], ssl=client, server_hostname="localhost")
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
            writer.close()
            await writer.wait_closed()
        return peers


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("peer"))


@pytest.mark.parametrize("protocol", [httptools_protocol, h11_protocol])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_device_is_known_in_every_request(place: Place, protocol: Protocol, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        first, second = runner.run(place.seen(protocol, place.chain, place.key))
    assert first is not None
    assert (first.kind, first.id, first.role, first.fingerprint) == ("device", DEVICE, "", place.fingerprint)
    assert second == first


@pytest.mark.parametrize("protocol", [httptools_protocol, h11_protocol])
def test_a_service_is_known_by_its_role(place: Place, protocol: Protocol) -> None:
    keys = place.site.folder / "ingest/keys"
    first, _ = asyncio.run(place.seen(protocol, keys / "svc-ingest-1.crt", keys / "svc-ingest-1.key"))
    assert first is not None
    assert (first.kind, first.id, first.role) == ("service", "svc-ingest-1", "ingest")


def test_the_servers_own_certificate_is_nobody(place: Place) -> None:
    leaf = certificate(place.keys / "server.crt").public_bytes(Encoding.DER)
    assert identify(leaf, place.issuers) is None


def test_swapped_issuers_know_nobody(place: Place) -> None:
    leaf = certificate(place.chain).public_bytes(Encoding.DER)
    assert identify(leaf, place.issuers) is not None
    assert identify(leaf, Issuers(place.issuers.services, place.issuers.devices)) is None
    assert sha256_hex(leaf) == place.fingerprint
