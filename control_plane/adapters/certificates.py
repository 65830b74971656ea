"""The device CA: certificate requests in, short-lived leaves out.

Rules: EC P-256 only; the request must be signed by the key it names; its subject and extensions are not looked at, the
device's id comes from the registry; the leaf is for TLS clients and for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contracts.canonical import CONTEXT_BATCH_KEY, sha256_hex
from contracts.enrolment import BatchKey
from contracts.errors import error
from contracts.ids import DEVICE_ID, SERVICE_ID, device_urn

MAX_CSR_BYTES = 16 * 1024
BACKDATED = timedelta(minutes=5)  # a device's clock may lag behind ours


@dataclass(frozen=True)
class Request:
    """A certificate request that proved possession of its key."""

    public_key: ec.EllipticCurvePublicKey

    @property
    def key_sha256(self) -> str:
        return sha256_hex(self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@dataclass(frozen=True)
class Issued:
    chain_pem: str  # leaf, then the device intermediate
    fingerprint: str  # sha256 of the leaf's DER, hex
    not_after: datetime


def parse_request(csr_pem: str) -> Request:
    """Raises ENROL_CSR_REFUSED unless it is an EC P-256 request signed by its own key."""
    request = _read(csr_pem)
    try:
        key, good = request.public_key(), request.is_signature_valid
    except _UNREADABLE as unreadable:
        raise error("ENROL_CSR_REFUSED", "certificate request", f"its key cannot be read: {unreadable}") from unreadable
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise error("ENROL_CSR_REFUSED", "certificate request", "the key is not EC P-256")
    if not good:
        raise error("ENROL_CSR_REFUSED", "certificate request", "it is not signed by its own key")
    return Request(key)


# Everything that python-cryptography raises on DER that a stranger has made up; it has no common base but Exception.
_UNREADABLE = (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion)


def _read(csr_pem: str) -> x509.CertificateSigningRequest:
    if len(csr_pem) > MAX_CSR_BYTES:
        raise error("ENROL_CSR_REFUSED", "certificate request", "too large")
    try:
        return x509.load_pem_x509_csr(csr_pem.encode())
    except _UNREADABLE as unreadable:
        raise error("ENROL_CSR_REFUSED", "certificate request", f"cannot be read: {unreadable}") from unreadable


def require_own_name(csr_pem: str, device: str) -> None:
    """The request's subject is never used, but one that claims another identity is refused. Raises ENROL_CSR_REFUSED."""
    try:
        names = _read(csr_pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except _UNREADABLE as unreadable:  # names are decoded when they are asked for
        raise error("ENROL_CSR_REFUSED", "certificate request", f"its subject cannot be read: {unreadable}") from unreadable
    claimed = [str(name.value) for name in names]
    if any(name != device and (DEVICE_ID.search(name) or SERVICE_ID.search(name)) for name in claimed):
        raise error("ENROL_CSR_REFUSED", device, f"the request claims to be {claimed[0][:80]!r}")


def check_batch_key(request: Request, batch_key: BatchKey) -> None:
    """The batch key is vouched for by the identity key of the same request. Raises ENROL_CSR_REFUSED."""
    try:
        request.public_key.verify(batch_key.signature_bytes, CONTEXT_BATCH_KEY + batch_key.raw, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as forged:
        raise error("ENROL_CSR_REFUSED", "batch key", "it is not signed by the request's key") from forged


class DeviceCa:
    def __init__(self, key: Path, certificate: Path) -> None:
        private = load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("the device CA's key is not elliptic")
        self._key = private
        self.certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
        self.certificate_pem = self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, request: Request, device: str, now: datetime, life: timedelta) -> Issued:
        """A leaf for `device`, valid from just before `now` for `life`, but no longer than the intermediate itself."""
        not_after = min(now + life, self.certificate.not_valid_after_utc)
        leaf = self._builder(request, device).not_valid_before(now - BACKDATED).not_valid_after(not_after).sign(self._key, hashes.SHA256())
        chain = leaf.public_bytes(Encoding.PEM).decode() + self.certificate_pem
        return Issued(chain, leaf.fingerprint(hashes.SHA256()).hex(), leaf.not_valid_after_utc)

    def _builder(self, request: Request, device: str) -> x509.CertificateBuilder:
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # digitalSignature alone
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)]))
            .issuer_name(self.certificate.subject)
            .public_key(request.public_key)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(device_urn(device))]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key), critical=False)
            .add_extension(authority, critical=False)
        )
