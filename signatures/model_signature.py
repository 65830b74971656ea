"""OpenSSF model signing, key mode: who made a model. A Sigstore bundle (v0.3) holds a DSSE envelope over an in-toto statement
that lists every file of the model with its digest. EC P-256 keys; the verifier pins them, and nothing in the bundle is
believed before one of them has verified it.

The model that is signed is the fp32 source as registered, one file named `model.onnx`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, load_pem_public_key

from contracts.canonical import sha256_hex
from contracts.errors import error
from signatures import dsse

SIGNED_FILE = "model.onnx"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"


def sign(key_pem: bytes, files: Mapping[str, str], model_name: str = "model") -> bytes:
    """The signature file's bytes over `files` (name -> sha256 hex). ValueError when the key is not EC P-256."""
    private = load_pem_private_key(key_pem, password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("not an EC private key")
    public = _p256(private.public_key())
    payload = json.dumps(_statement(files, model_name)).encode()
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": _hint(public)}, "tlogEntries": []},
        "dsseEnvelope": dsse.wrap(payload, "", lambda signed: private.sign(signed, ec.ECDSA(SHA256()))),
    }
    return json.dumps(bundle, separators=(",", ":")).encode()


def verify(bundle: bytes, files: Mapping[str, str], keys: Mapping[str, str]) -> None:
    """TrustError BUNDLE_MODEL_SIGNATURE unless a pinned key signed exactly `files` (name -> sha256 hex).

    `keys` are the pins: key id -> PEM. A file more, a file less, or another digest is refused with its name.
    """
    try:
        signed = _signed_files(bundle, keys)
    except (ValueError, KeyError, TypeError, AttributeError) as refused:
        raise error("BUNDLE_MODEL_SIGNATURE", detail=str(refused)) from refused
    for name in sorted({*signed, *files}, key=str):
        if signed.get(name) != files.get(name):
            raise error("BUNDLE_MODEL_SIGNATURE", name, f"signed {signed.get(name, 'not at all')}, present {files.get(name, 'not at all')}")


def key_id(public_pem: bytes) -> str:
    """The name of a pinned key: sha256 of its PEM as the bundle's hint has it."""
    return _hint(_load(public_pem))


def pinned(pems: str) -> dict[str, str]:
    """Key id -> PEM of each key in a text of one or more PEM blocks; what `verify` takes. ValueError when one is not P-256."""
    end = "-----END PUBLIC KEY-----\n"
    keys = {key_id(pem.encode()): pem for pem in (part + end for part in pems.split(end) if part.strip())}
    if not keys:
        raise ValueError("no public key")
    return keys


def _signed_files(bundle: bytes, keys: Mapping[str, str]) -> dict[str, str]:
    """File name -> sha256 of what the bundle's signature covers. The order is: form, key, signature, and only then content."""
    value = dsse.parse_json(bundle)
    if value["mediaType"] != MEDIA_TYPE:
        raise ValueError(f"media type {value['mediaType']!r}")
    public = _pinned(value["verificationMaterial"]["publicKey"]["hint"], keys)
    payload, _, signature, signed = dsse.unwrap(value["dsseEnvelope"])
    try:
        public.verify(signature, signed, ec.ECDSA(SHA256()))
    except InvalidSignature as invalid:
        raise ValueError("the signature is not by the pinned key") from invalid
    return _files(dsse.parse_json(payload))


def _pinned(hint: str, keys: Mapping[str, str]) -> ec.EllipticCurvePublicKey:
    for pem in keys.values():
        public = _load(pem.encode())
        if _hint(public) == hint:
            return public
    raise ValueError(f"signed by a key that is not pinned: {hint}")


def _statement(files: Mapping[str, str], model_name: str) -> dict[str, Any]:
    resources = [{"name": name, "algorithm": "sha256", "digest": files[name]} for name in sorted(files)]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": model_name, "digest": {"sha256": _root_digest(resources)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": resources,
        },
    }


def _files(statement: dict[str, Any]) -> dict[str, str]:
    if (statement["_type"], statement["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise ValueError(f"not a model signature: {statement['predicateType']!r}")
    [subject] = statement["subject"]
    predicate = statement["predicate"]
    if predicate["serialization"]["method"] != "files":
        raise ValueError("signed by shards, not by files")
    resources = predicate["resources"]
    if any(resource["algorithm"] != "sha256" for resource in resources):
        raise ValueError("a file's digest is not sha256")
    files = {resource["name"]: resource["digest"] for resource in resources}
    if len(files) != len(resources) or subject["digest"]["sha256"] != _root_digest(resources):
        raise ValueError("the statement contradicts itself")
    return files


def _root_digest(resources: list[dict[str, str]]) -> str:
    """The model's one digest: sha256 over the files' digests in the order of the list."""
    return hashlib.sha256(b"".join(bytes.fromhex(resource["digest"]) for resource in resources)).hexdigest()


def _load(pem: bytes) -> ec.EllipticCurvePublicKey:
    public = load_pem_public_key(pem)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("a pinned model key is not an EC key")
    return _p256(public)


def _p256(public: ec.EllipticCurvePublicKey) -> ec.EllipticCurvePublicKey:
    if not isinstance(public.curve, ec.SECP256R1):
        raise ValueError(f"curve {public.curve.name}, not P-256")
    return public


def _hint(public: ec.EllipticCurvePublicKey) -> str:
    return sha256_hex(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
