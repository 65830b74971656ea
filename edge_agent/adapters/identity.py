"""Who this device is: keys/ with the identity key and certificate, the batch key and the pins.

    identity.pem  what the certificate says, as text; EC P-256 key, the certificate and its intermediate: one file, so that they never part
    batch.pem     Ed25519 key for batches
    pins.json     what is trusted since enrolment; never replaced by what a server says later
The device's id is the certificate's common name, nothing else. A renewal makes new keys: `new_keys`.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from contracts.enrolment import Pins
from contracts.errors import error
from contracts.ids import DEVICE_ID
from signatures.ed25519 import SigningKey

IDENTITY, BATCH, PINS = "identity.pem", "batch.pem", "pins.json"


@dataclass(frozen=True)
class Said:
    """What a certificate says, as the text that may stand before it (RFC 7468, 5.2): so that a start needs no parser of X.509."""

    device: str
    not_before: datetime
    not_after: datetime

    def text(self) -> bytes:
        return f"device: {self.device}\nnot before: {self.not_before.isoformat()}\nnot after: {self.not_after.isoformat()}\n".encode()

    @classmethod
    def read(cls, pem: bytes) -> Said:
        """Raises ValueError when there is no such text."""
        head = pem.partition(b"-----BEGIN")[0].decode()
        fields = dict(line.split(": ", 1) for line in head.splitlines())
        if set(fields) != {"device", "not before", "not after"} or not DEVICE_ID.fullmatch(fields["device"]):
            raise ValueError("it does not say whose it is")
        return cls(fields["device"], datetime.fromisoformat(fields["not before"]), datetime.fromisoformat(fields["not after"]))


@dataclass(frozen=True)
class Identity:
    folder: Path
    device: str
    not_before: datetime
    not_after: datetime
    pins: Pins

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """Raises LocalFaultError ENROL_MISSING."""
        try:
            said = Said.read((folder / IDENTITY).read_bytes())
            pins = Pins.model_validate_json((folder / PINS).read_bytes())
        except FileNotFoundError as missing:
            raise error("ENROL_MISSING", str(folder)) from missing
        except ValueError as damaged:
            raise error("ENROL_MISSING", str(folder), f"{IDENTITY} or {PINS} is damaged: {damaged}") from damaged
        return cls(folder, said.device, said.not_before, said.not_after, pins)

    def signing_key(self) -> SigningKey:
        return SigningKey.from_pem((self.folder / BATCH).read_bytes())

    def tls(self) -> ssl.SSLContext:
        """Client side of mutual TLS 1.3 towards control plane and broker."""
        context = server_only_tls(self.pins.server_ca_pem)
        context.load_cert_chain(str(self.folder / IDENTITY))
        return context

    def due(self, now: datetime) -> bool:
        """Half of the certificate's life is over."""
        return now >= self.not_before + (self.not_after - self.not_before) / 2


def server_only_tls(ca_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem)
    return context
