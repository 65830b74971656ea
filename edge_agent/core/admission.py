"""May this bundle be installed here? Verified bytes in, an AdmittedBundle out: the only type that slots.stage accepts.

The checks, in the order of the code; each refuses with its own code.
 1 clock >= time floor                              TUF_CLOCK_BELOW_FLOOR
 2 kind known; a roll back names a digest that was  ASSIGNMENT_KIND, ASSIGNMENT_INVALID
   confirmed here
 3 director and image repository agree              BUNDLE_MISMATCH
 4 the manifest's bytes are those                   BUNDLE_MISMATCH
 5 the digest did not fail here under this fence    BUNDLE_BAD_DIGEST
 6 member names, then the manifest's form           BUNDLE_MEMBER_NAME, BUNDLE_MANIFEST
 7 the manifest lies where it says                  BUNDLE_MISMATCH
 8 profile                                          BUNDLE_PROFILE
 9 runtime and agent version in range               BUNDLE_RUNTIME
10 security epoch >= floor                          BUNDLE_EPOCH
The device's name in the assignment was checked when the order was made (orders.py); the model signature and the members'
digests are checked when the members are there (adapters/slot_dirs.py, adapters/bundles.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from contracts.assignment import KINDS
from contracts.canonical import sha256_hex
from contracts.errors import error
from contracts.manifest import CHUNK_BYTES, MANIFEST_MAX_BYTES, MEMBER_NAME, Manifest, Member
from edge_agent.core.floors import Floors, check_clock, check_epoch
from edge_agent.core.record import Record


@dataclass(frozen=True)
class ImageTarget:
    """What the image repository's verified metadata say of a path."""

    path: str
    length: int
    sha256: str


@dataclass(frozen=True)
class Here:
    """This device: profile name, runtime versions by backend (`major.minor...`), agent version."""

    profile: str
    runtimes: Mapping[str, str]
    agent_version: str


@dataclass(frozen=True)
class AdmittedBundle:
    digest: str
    manifest: Manifest
    manifest_bytes: bytes  # as signed; never serialised again


def admit(record: Record, image: ImageTarget, manifest_bytes: bytes, *, here: Here, floors: Floors, now: datetime) -> AdmittedBundle:
    """Raises RejectedError, TrustError or LocalFaultError with the code of the first check that fails."""
    check_clock(floors, now)  # 1
    _check_kind(record)  # 2
    if (image.path, image.length, image.sha256) != (record.path, record.length, record.target):  # 3
        raise error("BUNDLE_MISMATCH", record.path, "director and image repository differ")
    if len(manifest_bytes) != image.length or sha256_hex(manifest_bytes) != image.sha256:  # 4
        raise error("BUNDLE_MISMATCH", record.path, "the manifest's bytes are not the signed ones")
    _check_memory(record)  # 5
    manifest = parse_manifest(record.path, manifest_bytes)  # 6
    if manifest.target_path != record.path:  # 7
        raise error("BUNDLE_MISMATCH", record.path, f"the manifest belongs at {manifest.target_path}")
    if manifest.profile != here.profile:  # 8
        raise error("BUNDLE_PROFILE", manifest.profile, f"this device is {here.profile}")
    _check_runtime(manifest, here)  # 9
    check_epoch(floors, record.path, manifest.security_epoch)  # 10
    return AdmittedBundle(record.target, manifest, manifest_bytes)


def _check_kind(record: Record) -> None:
    if record.kind not in KINDS:
        raise error("ASSIGNMENT_KIND", record.kind)
    if record.kind == "rollback" and record.target not in record.history:
        raise error("ASSIGNMENT_INVALID", record.execution, "a roll back to a digest that was never confirmed here")


def _check_memory(record: Record) -> None:
    failed_under = record.bad_fence(record.target)
    if failed_under is not None and record.fence <= failed_under:
        raise error("BUNDLE_BAD_DIGEST", record.target, f"failed under fence {failed_under}")


def parse_manifest(thing: str, raw: bytes) -> Manifest:
    """Raises RejectedError BUNDLE_MEMBER_NAME or BUNDLE_MANIFEST."""
    if len(raw) > MANIFEST_MAX_BYTES:
        raise error("BUNDLE_MANIFEST", thing, f"{len(raw)} bytes")
    _check_names(thing, raw)
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        raise error("BUNDLE_MANIFEST", thing, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from invalid
    for name, member in manifest.members.items():
        _check_chunks(name, member)
    return manifest


def _check_names(thing: str, raw: bytes) -> None:
    """JSON lets a name occur twice; then two readers may see two bundles."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            raise error("BUNDLE_MEMBER_NAME", thing, "a name occurs twice")
        return dict(pairs)

    try:
        values = json.loads(raw, object_pairs_hook=unique)
    except (ValueError, RecursionError) as broken:
        raise error("BUNDLE_MANIFEST", thing, str(broken)) from broken
    members = values.get("members") if isinstance(values, dict) else None
    for name in members if isinstance(members, dict) else ():
        if not MEMBER_NAME.fullmatch(name) or name == "manifest.json":
            raise error("BUNDLE_MEMBER_NAME", thing, repr(name))


def _check_chunks(name: str, member: Member) -> None:
    wanted = -(-member.length // CHUNK_BYTES)
    if len(member.chunks) != wanted:
        raise error("BUNDLE_MANIFEST", name, f"{len(member.chunks)} chunk hashes, {wanted} are needed")


def _check_runtime(manifest: Manifest, here: Here) -> None:
    if _version(manifest.min_agent) > _version(here.agent_version):
        raise error("BUNDLE_RUNTIME", "agent", f"{here.agent_version}, needed {manifest.min_agent}")
    for variant in manifest.variants:
        installed = here.runtimes.get(variant.backend)
        if installed and _version(variant.runtime_min)[:2] <= _version(installed)[:2] <= _version(variant.runtime_max)[:2]:
            return
    asked = ", ".join(f"{one.backend} {one.runtime_min}..{one.runtime_max}" for one in manifest.variants)
    raise error("BUNDLE_RUNTIME", asked, f"installed: {dict(here.runtimes) or 'none'}")


def _version(text: str) -> tuple[int, ...]:
    """`1.23.2` -> (1, 23, 2); what is not a number ends it."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers) or (0,)
