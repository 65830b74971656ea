"""Who is at the other end of a mutual TLS connection. No ASGI server says it, so a protocol subclass does.

The identity is worked out once per connection (`connection_made` comes after the handshake) and lies in
`scope["state"]["peer"]` of every request on it. OpenSSL has verified the chain by then; here we look which *pinned
authority* issued the leaf, because a name alone does not tell a device from a service.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from contracts.ids import DEVICE_ID, SERVICE_ID, device_urn, service_urn

SCOPE_KEY = "peer"


@dataclass(frozen=True)
class Peer:
    kind: Literal["device", "service"]
    id: str  # dev-... or svc-<role>-<n>
    role: str  # of a service, else ""
    fingerprint: str  # sha256 of the certificate's DER, hex
    not_after: datetime


@dataclass(frozen=True)
class Issuers:
    """The authorities that make a leaf a device or a service."""

    devices: x509.Certificate
    services: x509.Certificate


def identify(der: bytes, issuers: Issuers) -> Peer | None:
    """The peer behind a verified leaf; None when issuer, common name and URI do not say the same."""
    leaf = x509.load_der_x509_certificate(der)
    names, uris = _names(leaf)
    if len(names) != 1 or len(uris) != 1:
        return None
    name, fingerprint = names[0], leaf.fingerprint(hashes.SHA256()).hex()
    if DEVICE_ID.fullmatch(name) and uris == [device_urn(name)] and _issued_by(leaf, issuers.devices):
        return Peer("device", name, "", fingerprint, leaf.not_valid_after_utc)
    service = SERVICE_ID.fullmatch(name)
    if service and uris == [service_urn(service["role"])] and _issued_by(leaf, issuers.services):
        return Peer("service", name, service["role"], fingerprint, leaf.not_valid_after_utc)
    return None


def _names(leaf: x509.Certificate) -> tuple[list[str], list[str]]:
    names = [str(attribute.value) for attribute in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return names, []
    return names, alternative.get_values_for_type(x509.UniformResourceIdentifier)


def _issued_by(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _with_peer(app_state: dict[str, Any], transport: asyncio.BaseTransport, issuers: Issuers) -> dict[str, Any]:
    tls = transport.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    return {**app_state, SCOPE_KEY: identify(der, issuers) if der else None}


def httptools_protocol(issuers: Issuers) -> type[asyncio.Protocol]:
    class PeerHttpTools(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.app_state = _with_peer(self.app_state, transport, issuers)
            super().connection_made(transport)

    return PeerHttpTools


def h11_protocol(issuers: Issuers) -> type[asyncio.Protocol]:
    class PeerH11(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.app_state = _with_peer(self.app_state, transport, issuers)
            super().connection_made(transport)

    return PeerH11
