"""Who this device is: keys/ with the identity key and certificate, the batch key and the pins.

    identity.pem  EC P-256 key, then the certificate and its intermediate: one file, so that key and certificate never part
    batch.pem     Ed25519 key for batches
    pins.json     what is trusted since enrolment; never replaced by what a server says later
The device's id is the certificate's common name, nothing else. A renewal makes new keys.
"""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from contracts.canonical import CONTEXT_BATCH_KEY
from contracts.enrolment import BatchKey, EnrolmentAnswer, Pins
from contracts.errors import error
from contracts.ids import DEVICE_ID
from program.disk import writing
from program.files import write_durably
from signatures.ed25519 import SigningKey

IDENTITY, BATCH, PINS = "identity.pem", "batch.pem", "pins.json"


@dataclass(frozen=True)
class NewKeys:
    """Made here, never sent: the server sees a request and the public halves."""

    identity_pem: bytes
    batch_pem: bytes

    @classmethod
    def make(cls) -> NewKeys:
        return cls(_pem(ec.generate_private_key(ec.SECP256R1())), _pem(Ed25519PrivateKey.generate()))

    def csr_pem(self) -> str:
        """The subject is a placeholder: the registry decides the name."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "skerry-device")])
        return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key(), hashes.SHA256()).public_bytes(_PEM).decode()

    def batch_key(self) -> BatchKey:
        public = SigningKey.from_pem(self.batch_pem).public
        signature = self._key().sign(CONTEXT_BATCH_KEY + public, ec.ECDSA(hashes.SHA256()))
        return BatchKey(public_key=public.hex(), signature=base64.b64encode(signature).decode())

    def _key(self) -> ec.EllipticCurvePrivateKey:
        return _ec_key(self.identity_pem)


_PEM = Encoding.PEM


def _pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(_PEM, PrivateFormat.PKCS8, NoEncryption())


def _ec_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an EC private key")
    return key


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
            certificate = x509.load_pem_x509_certificates((folder / IDENTITY).read_bytes())[0]
            pins = Pins.model_validate_json((folder / PINS).read_bytes())
        except FileNotFoundError as missing:
            raise error("ENROL_MISSING", str(folder)) from missing
        return cls(folder, device_of(certificate), certificate.not_valid_before_utc, certificate.not_valid_after_utc, pins)

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


def device_of(certificate: x509.Certificate) -> str:
    """Raises TrustError ENROL_SERVER_UNKNOWN for a name that is no device id."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else ""
    if not DEVICE_ID.fullmatch(name):
        raise error("ENROL_SERVER_UNKNOWN", name, "the certificate names no device")
    return name


def keep(folder: Path, keys: NewKeys, answer: EnrolmentAnswer, pins: Pins) -> Identity:
    """Write what was enrolled or renewed. The identity goes last: without it the device counts as not enrolled.

    Raises TrustError ENROL_SERVER_UNKNOWN, LocalFaultError SETUP_STATE_DISK.
    """
    certificate = x509.load_pem_x509_certificates(answer.certificate_pem.encode())[0]
    if _spki(certificate.public_key()) != _spki(_ec_key(keys.identity_pem).public_key()):
        raise error("ENROL_SERVER_UNKNOWN", answer.device, "the certificate is for another key")
    if device_of(certificate) != answer.device:
        raise error("ENROL_SERVER_UNKNOWN", answer.device, "the certificate names another device")
    with writing("SETUP_STATE_DISK", folder, "keeping keys and certificate"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(folder / PINS, pins.model_dump_json().encode(), 0o600)
        write_durably(folder / BATCH, keys.batch_pem, 0o600)
        write_durably(folder / IDENTITY, keys.identity_pem + answer.certificate_pem.encode(), 0o600)
    return Identity.load(folder)


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
