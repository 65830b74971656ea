"""What a device trusts from enrolment on, read from the site's public folder."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from contracts.assignment import AckKey
from contracts.canonical import key_id
from contracts.enrolment import Pins
from control_plane.config import ControlConfig
from signatures import model_signature

SITE_CA, DEVICE_CA, SERVICE_CA = "site-ca.crt", "device-ca.crt", "service-ca.crt"


def read_pins(config: ControlConfig) -> Pins:
    signing = [path.read_bytes() for path in sorted(config.public_dir.glob("model-signing*.pub.pem"))]
    return Pins(
        server_ca_pem=config.public(SITE_CA).read_text(),
        device_ca_pem=config.public(DEVICE_CA).read_text(),
        image_root=_base64(config.public("image-root.json")),
        director_root=_base64(config.public("director-root.json")),
        model_signing_keys={model_signature.key_id(pem): pem.decode() for pem in signing},
        broker_host=config.broker_host,
        broker_port=config.broker_port,
        control_url=config.control_url,
    )


def ack_keys(config: ControlConfig) -> tuple[AckKey, ...]:
    """The keys that ingest may sign acks with; they rotate through the assignment."""
    raw = [bytes.fromhex(path.read_text().strip()) for path in sorted(config.public_dir.glob("ack*.pub"))]
    return tuple(AckKey(key_id=key_id(key), public_key=key.hex()) for key in raw)


def server_ca_sha256(config: ControlConfig) -> str:
    """sha256 of the CA's DER, which every token carries."""
    return certificate(config.public(SITE_CA)).fingerprint(hashes.SHA256()).hex()


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
