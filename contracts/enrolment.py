"""Enrolment: a one-time token and a certificate request against a certificate and the pins."""

from __future__ import annotations

import base64
from typing import Any

from pydantic import Field

from contracts.ids import DeviceId, Sha256, Wire

TOKEN_PREFIX = "skt1"


class Token(Wire):
    """`skt1.<secret>.<sha256 of the server CA's DER certificate>`: the device checks the CA before it speaks."""

    secret: str = Field(min_length=20)
    ca_sha256: Sha256

    def __str__(self) -> str:
        return f"{TOKEN_PREFIX}.{self.secret}.{self.ca_sha256}"

    @classmethod
    def parse(cls, text: str) -> Token:
        prefix, _, rest = text.strip().partition(".")
        secret, _, ca = rest.partition(".")
        if prefix != TOKEN_PREFIX:
            raise ValueError("not an enrolment token")
        return cls(secret=secret, ca_sha256=ca)


class BatchKey(Wire):
    """The device's Ed25519 key for batches.

    `signature` is by the identity key (ECDSA P-256, SHA-256, DER) over CONTEXT_BATCH_KEY + raw key, base64.
    """

    public_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    signature: str  # base64

    @property
    def raw(self) -> bytes:
        return bytes.fromhex(self.public_key)

    @property
    def signature_bytes(self) -> bytes:
        return base64.b64decode(self.signature)


class EnrolmentRequest(Wire):
    token: str
    csr_pem: str
    batch_key: BatchKey
    inventory: dict[str, Any] = {}  # profile, serial, hostname, agent_version, ...


class Pins(Wire):
    """What a device trusts from enrolment on. TUF roots are the bytes of 1.root.json, base64."""

    server_ca_pem: str
    device_ca_pem: str
    image_root: str
    director_root: str
    model_signing_keys: dict[str, str]  # key id -> PEM (EC P-256)
    broker_host: str
    broker_port: int
    control_url: str  # https://host:8443

    @property
    def image_root_bytes(self) -> bytes:
        return base64.b64decode(self.image_root)

    @property
    def director_root_bytes(self) -> bytes:
        return base64.b64decode(self.director_root)


class EnrolmentAnswer(Wire):
    device: DeviceId
    certificate_pem: str  # leaf, then the device intermediate
    pins: Pins


class EnrolmentPending(Wire):
    """202: a person must approve; poll GET /enrol/v1/requests/{request_id}."""

    request_id: str
