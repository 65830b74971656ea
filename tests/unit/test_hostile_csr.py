"""Certificate requests made up by a stranger: refused with one code or granted under the registry's name; never another exception."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import RejectedError
from contracts.ids import device_urn, service_urn
from control_plane.adapters.certificates import DeviceCa, parse_request, require_own_name
from control_plane.ceremony.ceremony import make_site
from control_plane.ceremony.layout import Site
from tests.simulators.bundle_bytes import PROFILE

DEVICE, OTHER = "dev-" + "a" * 26, "dev-" + "b" * 26
KEY = ec.generate_private_key(ec.SECP256R1())
NAMES = {
    "nothing": "", "NUL": f"{DEVICE}\0.example", "newline": "x\nCN=svc", "path": "../../etc/passwd", "long": "x" * 4000, "wildcard": "*",
    "markup": "<script>", "right to left": "\u202edev-", "topic": "skerry/1/up/#", "another device": OTHER, "a service": "svc-ingest-1",
    "a device inside": f"x {OTHER}",
}  # fmt: skip
CLAIMS = ("NUL", "another device", "a service", "a device inside")  # somebody's identity stands in them


def request(names: tuple[str, ...], key: ec.EllipticCurvePrivateKey = KEY, extensions: tuple[x509.ExtensionType, ...] = ()) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE REQUEST-----\n"


def refusal_of(text: str, device: str = "") -> str | None:
    """The code, None when it is taken; anything but a refusal goes up and fails the test."""
    try:
        parse_request(text)
        require_own_name(text, device)
    except RejectedError as refused:
        return refused.code
    return None


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> DeviceCa:
    folder: Path = tmp_path_factory.mktemp("site") / "made"
    make_site(Site(folder, ()), (PROFILE,), "localhost", datetime.now(timezone.utc))
    return DeviceCa(folder / "control/keys/device-ca.key", folder / "control/keys/device-ca.crt")


@pytest.mark.filterwarnings("ignore:Attribute's length")  # python-cryptography's word on a name that is too long for X.509
@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_hostile_name_is_refused_or_has_no_effect(ca: DeviceCa, name: str) -> None:
    text = pem(request((NAMES[name],) if NAMES[name] else ()))
    assert refusal_of(text) == ("ENROL_CSR_REFUSED" if name in CLAIMS else None)
    issued = ca.issue(parse_request(text), DEVICE, datetime.now(timezone.utc), timedelta(days=1))
    leaf = x509.load_pem_x509_certificates(issued.chain_pem.encode())[0]
    assert leaf.subject.rfc4514_string() == f"CN={DEVICE}", "the subject comes from the registry, whatever was asked for"


def test_a_claim_beside_an_innocent_name_is_found() -> None:
    assert refusal_of(pem(request(("innocent", OTHER)))) == "ENROL_CSR_REFUSED"
    assert refusal_of(pem(request((DEVICE, OTHER))), DEVICE) == "ENROL_CSR_REFUSED"
    assert refusal_of(pem(request((DEVICE,))), DEVICE) is None, "a renewal may name itself"


def test_extensions_that_were_asked_for_are_not_granted(ca: DeviceCa) -> None:
    """A CA, a server, a service, a wildcard host: none of it reaches the certificate."""
    hosts = x509.SubjectAlternativeName([x509.DNSName("*"), x509.UniformResourceIdentifier(service_urn("ingest"))])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    asked = (x509.BasicConstraints(ca=True, path_length=3), hosts, usage)
    issued = ca.issue(parse_request(pem(request(("x",), extensions=asked))), DEVICE, datetime.now(timezone.utc), timedelta(days=1))
    extensions = x509.load_pem_x509_certificates(issued.chain_pem.encode())[0].extensions
    alternative = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [one.value for one in alternative] == [device_urn(DEVICE)]
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_other_keys_and_curves_are_refused() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    made = [
        builder.sign(rsa.generate_private_key(65537, 1024), hashes.SHA256()),
        builder.sign(dsa.generate_private_key(1024), hashes.SHA256()),
        builder.sign(ed25519.Ed25519PrivateKey.generate(), None),
        *(builder.sign(ec.generate_private_key(curve()), hashes.SHA256()) for curve in (ec.SECP384R1, ec.SECP521R1, ec.SECP256K1)),
    ]
    assert {refusal_of(one.public_bytes(Encoding.PEM).decode()) for one in made} == {"ENROL_CSR_REFUSED"}


@pytest.mark.parametrize("text", ["", "nonsense", "\ud800", "x" * 20_000, pem(b""), pem(b"\x30\x80"), pem(b"\x30\x84\xff\xff\xff\xff")])
def test_what_is_no_request_is_refused(text: str) -> None:
    assert refusal_of(text) == "ENROL_CSR_REFUSED"


@given(position=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 40))
def test_a_damaged_request_is_refused_or_the_same(position: int, value: int, cut: int) -> None:
    """Versions, tags, lengths, object identifiers: whatever a byte turns into, it is one code, and no other exception."""
    der = bytearray(request(("skerry-device",)))
    der[position % len(der)] = value
    damaged = pem(bytes(der[: len(der) - cut]))
    assert refusal_of(damaged) in ("ENROL_CSR_REFUSED", None)
    if cut:
        assert refusal_of(damaged) == "ENROL_CSR_REFUSED"
