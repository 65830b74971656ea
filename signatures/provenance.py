"""SLSA v1 provenance of a bundle, in a DSSE envelope signed by the builder's Ed25519 key: from what, by whom, with which result.

Subjects: every member of the bundle but the provenance itself, and the manifest without its provenance entry (a file cannot
name its own digest). So the builder's signature fixes every byte of the manifest: limits, evaluation, names and numbers too.
Materials: the fp32 model, the calibration and held-out sets, processing and feature schema, by sha256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.canonical import canonical_json, sha256_hex
from contracts.manifest import PROVENANCE
from signatures import dsse
from signatures.ed25519 import SigningKey, verify_raw
from signatures.model_signature import STATEMENT_TYPE

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:skerry:build:quantized-bundle:1"
MANIFEST_SUBJECT = "manifest:body"  # a colon is in no member's name


@dataclass(frozen=True)
class Provenance:
    """`parameters`: profile, model version, run, data digest; `internal`: tool versions and settings of the build."""

    subjects: dict[str, str]  # name -> sha256
    materials: dict[str, str]  # name -> sha256
    parameters: dict[str, Any] = field(default_factory=dict)
    internal: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)  # invocationId, startedOn, finishedOn


def sign(provenance: Provenance, key: SigningKey) -> bytes:
    """The provenance member's bytes."""
    payload = json.dumps(_statement(provenance, key.key_id), sort_keys=True).encode()
    return canonical_json(dsse.wrap(payload, key.key_id, lambda signed: key.sign(b"", signed)))


def verify(envelope: bytes, builders: Mapping[str, bytes]) -> Provenance:
    """ValueError unless signed by one of `builders` (key id -> raw public key)."""
    payload, key_id, signature, signed = dsse.unwrap(dsse.parse_json(envelope))
    if key_id not in builders:
        raise ValueError(f"signed by a key that is not pinned: {key_id!r}")
    if not verify_raw(builders[key_id], signed, signature):
        raise ValueError("the signature is not by the pinned key")
    return _provenance(payload)


def read_authentic(envelope: bytes) -> Provenance:
    """Content without a look at the signature: only for bytes that are authentic by other means (a TUF-signed digest)."""
    payload, _, _, _ = dsse.unwrap(dsse.parse_json(envelope))
    return _provenance(payload)


def manifest_body_sha256(manifest: Mapping[str, Any]) -> str:
    """Digest of a manifest (as a JSON object) without its provenance entry."""
    members = {name: member for name, member in manifest["members"].items() if name != PROVENANCE}
    return sha256_hex(canonical_json({**manifest, "members": members}))


def _statement(provenance: Provenance, builder: str) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": _descriptors(provenance.subjects),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": provenance.parameters,
                "internalParameters": provenance.internal,
                "resolvedDependencies": _descriptors(provenance.materials),
            },
            "runDetails": {"builder": {"id": f"urn:skerry:builder:{builder}"}, "metadata": provenance.metadata},
        },
    }


def _provenance(payload: bytes) -> Provenance:
    statement = dsse.parse_json(payload)
    try:
        if (statement["_type"], statement["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise ValueError("not SLSA provenance")
        definition = statement["predicate"]["buildDefinition"]
        if definition["buildType"] != BUILD_TYPE:
            raise ValueError(f"build type {definition['buildType']!r}")
        return Provenance(
            _digests(statement["subject"]), _digests(definition["resolvedDependencies"]), definition["externalParameters"],
            definition["internalParameters"], statement["predicate"]["runDetails"]["metadata"],
        )  # fmt: skip
    except (KeyError, TypeError) as broken:
        raise ValueError(f"not SLSA provenance: {broken}") from broken


def _descriptors(digests: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "digest": {"sha256": digests[name]}} for name in sorted(digests)]


def _digests(descriptors: list[dict[str, Any]]) -> dict[str, str]:
    digests = {descriptor["name"]: descriptor["digest"]["sha256"] for descriptor in descriptors}
    if len(digests) != len(descriptors):
        raise ValueError("a name is repeated")
    return digests
