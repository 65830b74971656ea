"""OpenSSF model signing in key mode: the official tool verifies what we sign, we verify what it signs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from contracts.canonical import sha256_hex
from contracts.errors import TrustError
from signatures import dsse, model_signature

MODEL = b"the fp32 model"
FILES = {"model.onnx": sha256_hex(MODEL)}
FILES_METHOD = {"method": "files"}


def key_pair(curve: ec.EllipticCurve | None = None) -> tuple[bytes, dict[str, str]]:
    private = ec.generate_private_key(curve or ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem, {"pin": public.decode()}


@pytest.fixture(scope="module")
def keys() -> tuple[bytes, dict[str, str]]:
    return key_pair()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(MODEL)
    return tmp_path


def refusal(bundle: bytes, files: dict[str, str], pins: dict[str, str]) -> str:
    with pytest.raises(TrustError) as refused:
        model_signature.verify(bundle, files, pins)
    assert refused.value.code == "BUNDLE_MODEL_SIGNATURE"
    return str(refused.value)


def test_the_official_tool_verifies_what_we_sign(folder: Path, keys: tuple[bytes, dict[str, str]]) -> None:
    (folder / "public.pem").write_text(keys[1]["pin"])
    (folder / "model.sig").write_bytes(model_signature.sign(keys[0], FILES))
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=folder / "public.pem")  # type: ignore[no-untyped-call]
    config.verify(folder / "model", folder / "model.sig")
    (folder / "model" / "model.onnx").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"model\.onnx"):
        config.verify(folder / "model", folder / "model.sig")


def test_we_verify_what_the_official_tool_signs(folder: Path, keys: tuple[bytes, dict[str, str]]) -> None:
    (folder / "key.pem").write_bytes(keys[0])
    model_signing.signing.Config().use_elliptic_key_signer(private_key=folder / "key.pem").sign(folder / "model", folder / "model.sig")  # type: ignore[no-untyped-call]
    signed = (folder / "model.sig").read_bytes()
    model_signature.verify(signed, FILES, keys[1])
    assert "signed" in refusal(signed, {"model.onnx": sha256_hex(b"another")}, keys[1])


def test_a_changed_an_extra_and_a_missing_file_are_named(keys: tuple[bytes, dict[str, str]]) -> None:
    signed = model_signature.sign(keys[0], {**FILES, "second.bin": "2" * 64})
    assert "second.bin" in refusal(signed, {**FILES, "second.bin": "3" * 64}, keys[1])
    assert "third.bin" in refusal(signed, {**FILES, "second.bin": "2" * 64, "third.bin": "3" * 64}, keys[1])
    assert "second.bin" in refusal(signed, FILES, keys[1])


def test_a_key_that_is_not_pinned_is_refused_even_under_the_hint_of_one_that_is(keys: tuple[bytes, dict[str, str]]) -> None:
    other, _ = key_pair()
    signed = model_signature.sign(other, FILES)
    assert "not pinned" in refusal(signed, FILES, keys[1])
    bundle = json.loads(signed)
    bundle["verificationMaterial"]["publicKey"]["hint"] = model_signature.key_id(keys[1]["pin"].encode())
    assert "not by the pinned key" in refusal(json.dumps(bundle).encode(), FILES, keys[1])
    assert "not pinned" in refusal(signed, FILES, {})


def test_one_of_several_pins_suffices(keys: tuple[bytes, dict[str, str]]) -> None:
    _, others = key_pair()
    pins = model_signature.pinned(others["pin"] + keys[1]["pin"])
    assert len(pins) == 2
    model_signature.verify(model_signature.sign(keys[0], FILES), FILES, pins)


def test_other_curves_are_refused_for_signing_and_as_pins() -> None:
    pem, pins = key_pair(ec.SECP384R1())
    with pytest.raises(ValueError, match="P-256"):
        model_signature.sign(pem, FILES)
    assert "P-256" in refusal(model_signature.sign(key_pair()[0], FILES), FILES, pins)


def resigned(keys: tuple[bytes, dict[str, str]], **changed: Any) -> bytes:
    """A bundle by the right key over a statement with fields changed."""
    statement = {**model_signature._statement(FILES, "model"), **changed}
    bundle = json.loads(model_signature.sign(keys[0], FILES))
    private = load_pem_private_key(keys[0], password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    bundle["dsseEnvelope"] = dsse.wrap(json.dumps(statement).encode(), "", lambda signed: private.sign(signed, ec.ECDSA(SHA256())))
    return json.dumps(bundle).encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": []},
        {"subject": [{"name": "model", "digest": {"sha256": "0" * 64}}]},
        {"predicate": {"serialization": {"method": "shards"}, "resources": []}},
        {
            "predicate": {
                "serialization": {"method": "files"},
                "resources": [{"name": "model.onnx", "algorithm": "blake2b", "digest": "00"}],
            }
        },
        {"predicate": {"serialization": FILES_METHOD, "resources": [{"name": 7, "algorithm": "sha256", "digest": 7}]}},
        {"predicate": None},
    ],
)
def test_a_statement_of_another_kind_is_refused_although_the_right_key_signed_it(
    keys: tuple[bytes, dict[str, str]], changed: dict[str, Any]
) -> None:
    model_signature.verify(resigned(keys), FILES, keys[1])
    assert refusal(resigned(keys, **changed), FILES, keys[1])


@pytest.mark.parametrize(
    "bundle",
    [
        b"", b"{", b"[]", b"null", b'{"mediaType": 7}', b"\xff\xfe", b"[" * 100_000, b" " * (dsse.MAX_BYTES + 1),
        b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":{}}}}',
        b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":null}',
    ],
)  # fmt: skip
def test_rubbish_is_refused_with_the_code(keys: tuple[bytes, dict[str, str]], bundle: bytes) -> None:
    assert refusal(bundle, FILES, keys[1])


@pytest.mark.parametrize("part", ["payload", "payloadType", "signatures"])
def test_an_envelope_without_a_part_or_with_it_doubled_is_refused(keys: tuple[bytes, dict[str, str]], part: str) -> None:
    bundle = json.loads(model_signature.sign(keys[0], FILES))
    whole = bundle["dsseEnvelope"]
    bundle["dsseEnvelope"] = {name: value for name, value in whole.items() if name != part}
    assert refusal(json.dumps(bundle).encode(), FILES, keys[1])
    doubled = json.dumps({**bundle, "dsseEnvelope": whole}).replace(f'"{part}":', f'"{part}": null, "{part}":', 1)
    assert "repeated" in refusal(doubled.encode(), FILES, keys[1])
