"""New keys: made here, certified by the server, kept. For enrolment and renewal.

Apart from `identity`, because the parser of X.509 costs the agent a megabyte that it needs once in half a certificate's life.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
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
from edge_agent.adapters.identity import BATCH, IDENTITY, PINS, Identity, Said
from program.disk import writing
from program.files import write_durably
from signatures.ed25519 import SigningKey

_PEM = Encoding.PEM


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


def _pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(_PEM, PrivateFormat.PKCS8, NoEncryption())


def _ec_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an EC private key")
    return key


def _device_of(certificate: x509.Certificate) -> str:
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
    if _device_of(certificate) != answer.device:
        raise error("ENROL_SERVER_UNKNOWN", answer.device, "the certificate names another device")
    said = Said(answer.device, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    with writing("SETUP_STATE_DISK", folder, "keeping keys and certificate"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(folder / PINS, pins.model_dump_json().encode(), 0o600)
        write_durably(folder / BATCH, keys.batch_pem, 0o600)
        write_durably(folder / IDENTITY, said.text() + keys.identity_pem + answer.certificate_pem.encode(), 0o600)
    return Identity.load(folder)


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
