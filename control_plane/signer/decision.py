"""What may be signed. Pure: bytes, pins and the record of what was signed before come in; a target to sign, or a code, goes out.

Order of the checks, for one release:
 1. the approval is over this very release, by a pinned approver             SIGNER_APPROVAL
 and for each of its manifests:
 2. the bytes are one canonical JSON manifest of this release and profile    SIGNER_MANIFEST
 3. every member's bytes were hashed by us, with the manifest's digests      SIGNER_MANIFEST
 4. provenance by a pinned builder names these members and this manifest     SIGNER_PROVENANCE
 5. model.sig by a pinned training key covers the fp32 model of 4            SIGNER_MODEL_SIGNATURE
 6. its path was never signed with other content                             SIGNER_VERSION
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from contracts.canonical import CONTEXT_APPROVAL, canonical_json, sha256_hex
from contracts.errors import TrustError, error
from contracts.manifest import MANIFEST_MAX_BYTES, MODEL_SIGNATURE, PROVENANCE, Manifest, Member
from contracts.release import Approval, Release
from signatures import ed25519, provenance
from signatures.bundle import check_papers


@dataclass(frozen=True)
class Pins:
    """Whom the signer believes. Ed25519 keys by key id, raw; model keys by key id, PEM."""

    builders: Mapping[str, bytes]
    approvers: Mapping[str, bytes]
    model_keys: Mapping[str, str]


@dataclass(frozen=True)
class Papers:
    """Bytes of the two members that prove where the others come from."""

    provenance: bytes
    model_signature: bytes


@dataclass(frozen=True)
class Target:
    """What goes into a profile's role."""

    profile: str
    path: str
    length: int
    sha256: str


def check_approval(release: Release, approval: Approval, pins: Pins) -> None:
    """Step 1. TrustError SIGNER_APPROVAL."""
    approved = canonical_json(release.model_dump(mode="json"))
    approver = pins.approvers.get(approval.key_id)
    if approver is None:
        raise error("SIGNER_APPROVAL", release.id, f"key {approval.key_id} is not pinned")
    if approval.release_sha256 != sha256_hex(approved):
        raise error("SIGNER_APPROVAL", release.id, "it names another release")
    if not ed25519.verify(approver, CONTEXT_APPROVAL, approved, _from_hex(approval.signature)):
        raise error("SIGNER_APPROVAL", release.id, "the signature does not verify")


def read_manifest(release: Release, profile: str, data: bytes) -> Manifest:
    """Step 2. RejectedError SIGNER_MANIFEST unless `data` is the manifest that the release names for `profile`."""
    if len(data) > MANIFEST_MAX_BYTES or sha256_hex(data) != release.manifests[profile]:
        raise error("SIGNER_MANIFEST", profile, "too long, or other bytes than the release names")
    try:
        value = json.loads(data)
        canonical = canonical_json(value) == data  # one meaning only: no repeated keys, nothing beside the JSON
        manifest = Manifest.model_validate_json(data)
    except (ValueError, RecursionError, ValidationError) as broken:
        raise error("SIGNER_MANIFEST", profile, str(broken)) from broken
    if not canonical:
        raise error("SIGNER_MANIFEST", profile, "not in canonical form")
    if (manifest.name, manifest.number, manifest.profile) != (release.name, release.number, profile):
        raise error("SIGNER_MANIFEST", profile, f"it is of {manifest.target_path}")
    return manifest


def check_member(name: str, expected: Member, seen: Member) -> None:
    """Step 3. `seen` is what we hashed ourselves."""
    if seen != expected:
        raise error("SIGNER_MANIFEST", name, "the blob's bytes are not those of the manifest")


def admit(data: bytes, manifest: Manifest, papers: Papers, pins: Pins, signed: Mapping[str, str]) -> Target:
    """Steps 4 to 6 for a manifest whose members were all hashed. `signed`: target path -> digest, of all time."""
    path = manifest.target_path
    made = _provenance(data, path, papers, pins)
    members = {name: member.sha256 for name, member in manifest.members.items()}
    try:
        check_papers(made, members, papers.model_signature, pins.model_keys)
    except TrustError as untrusted:
        code = "SIGNER_PROVENANCE" if untrusted.thing == PROVENANCE else "SIGNER_MODEL_SIGNATURE"
        raise error(code, f"{path}: {untrusted.thing or MODEL_SIGNATURE}", untrusted.detail) from untrusted
    digest = sha256_hex(data)
    if signed.get(path, digest) != digest:
        raise error("SIGNER_VERSION", path, f"signed before with digest {signed[path]}")
    return Target(manifest.profile, path, len(data), digest)


def _provenance(data: bytes, path: str, papers: Papers, pins: Pins) -> provenance.Provenance:
    try:
        made = provenance.verify(papers.provenance, pins.builders)
    except ValueError as refused:
        raise error("SIGNER_PROVENANCE", path, str(refused)) from refused
    if made.subjects.get(provenance.MANIFEST_SUBJECT) != provenance.manifest_body_sha256(json.loads(data)):
        raise error("SIGNER_PROVENANCE", path, "the builder signed another manifest")
    return made


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
