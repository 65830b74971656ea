"""X.509 of a site: an offline root with an intermediate for devices and one for servers, and an offline root for services alone.

The purpose of an authority is in its extended key usage, so that OpenSSL itself refuses a device's certificate as a server and the
other way round. Services have a root of their own because a broker can be told whom to trust, but not which intermediate. Keys are
EC P-256: what TPMs and every TLS stack have.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contracts.ids import service_urn

ROOT_LIFE = timedelta(days=20 * 365)
INTERMEDIATE_LIFE = timedelta(days=5 * 365)
LEAF_LIFE = timedelta(days=365)
_CLOCK_SLACK = timedelta(minutes=5)  # a server whose clock is a little behind must not see a certificate of the future

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @classmethod
    def from_pem(cls, certificate: bytes, key: bytes) -> Identity:
        private = load_pem_private_key(key, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("not an EC private key")
        return cls(x509.load_pem_x509_certificate(certificate), private)


def root_authority(now: datetime) -> Identity:
    return _root("Skerry site CA", now, path_length=1)


def service_authority(now: datetime) -> Identity:
    """A root of its own that signs services and nothing else: whoever trusts it alone takes no device for a service."""
    return _root("Skerry service CA", now, path_length=0, purpose=CLIENT)


def _root(common_name: str, now: datetime, path_length: int, purpose: x509.ObjectIdentifier | None = None) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    builder = _authority(_certificate(name, name, key, now, ROOT_LIFE), path_length)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return _signed(builder, key, issuer=key)


def intermediate(root: Identity, name: str, purpose: x509.ObjectIdentifier, now: datetime) -> Identity:
    """An authority that can sign leaves of one purpose (CLIENT or SERVER) and no further authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _certificate(_name(name), root.certificate.subject, key, now, INTERMEDIATE_LIFE)
    builder = _authority(builder, path_length=0).add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return _signed(builder, key, issuer=root.key)


def server(authority: Identity, host: str, now: datetime) -> Identity:
    """A TLS server's leaf, good for `host`, localhost and 127.0.0.1."""
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    if (own := _host_name(host)) not in names:
        names.append(own)
    return _leaf(authority, host, names, SERVER, now)


def service(authority: Identity, service_id: str, now: datetime) -> Identity:
    """The client leaf of one process instance: CN `svc-<role>-<n>`, SAN URI `urn:skerry:svc:<role>`."""
    role = service_id.split("-")[1]
    return _leaf(authority, service_id, [x509.UniformResourceIdentifier(service_urn(role))], CLIENT, now)


def _leaf(authority: Identity, common_name: str, names: list[x509.GeneralName], purpose: x509.ObjectIdentifier, now: datetime) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _certificate(_name(common_name), authority.certificate.subject, key, now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return _signed(builder, key, issuer=authority.key)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + life)
    )


def _authority(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(
        _key_usage(sign_certificates=True), critical=True
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey) -> Identity:
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    return Identity(builder.sign(issuer, hashes.SHA256()), key)


def _key_usage(sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates, key_cert_sign=sign_certificates, crl_sign=sign_certificates, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
