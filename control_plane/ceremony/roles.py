"""TUF metadata of the two repositories, as python-tuf values. Pure: keys and time come in, signed metadata go out.

Image repository: root and targets 2-of-3 and offline; targets delegates `bundles/<profile>/*`, terminating, to one key per
profile; snapshot and timestamp online in the signer; consistent snapshots.
Director: root 2-of-3 offline; targets, snapshot and timestamp share the control plane's one key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)  # fmt: skip

from control_plane.signer.publisher import role_of

THRESHOLD, HOLDERS = 2, 3
YEAR, MONTH, DAY = timedelta(days=365), timedelta(days=30), timedelta(days=1)
TOP_LEVEL = ("root", "targets", "snapshot", "timestamp")


def new_key_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signer_from_pem(pem: bytes) -> CryptoSigner:
    private = load_pem_private_key(pem, password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 private key")
    return CryptoSigner(private)


def root(
    version: int,
    keys: Mapping[str, Iterable[Key]],
    signers: Iterable[CryptoSigner],
    now: datetime,
    consistent_snapshot: bool,
) -> bytes:
    """root.json. `keys` maps each top-level role to its public keys; roles with three holders have a threshold of two."""
    listed = {role: list(role_keys) for role, role_keys in keys.items()}
    roles = {
        role: Role([key.keyid for key in role_keys], THRESHOLD if len(role_keys) == HOLDERS else 1) for role, role_keys in listed.items()
    }
    known = {key.keyid: key for role_keys in listed.values() for key in role_keys}
    return _signed(Root(version, _SPEC, _after(now, YEAR), known, roles, consistent_snapshot), signers)


def next_root(previous: bytes, root_keys: Iterable[Key], signers: Iterable[CryptoSigner], now: datetime) -> bytes:
    """The successor of `previous` with other root keys; it must be signed by two of the old and two of the new holders."""
    signed = Metadata[Root].from_bytes(previous).signed
    new = {key.keyid: key for key in root_keys}
    kept = {keyid: key for keyid, key in signed.keys.items() if any(keyid in signed.roles[role].keyids for role in TOP_LEVEL[1:])}
    roles = {**signed.roles, "root": Role(list(new), THRESHOLD)}
    return _signed(Root(signed.version + 1, _SPEC, _after(now, YEAR), {**kept, **new}, roles, signed.consistent_snapshot), signers)


def image_targets(version: int, profiles: Mapping[str, Key], signers: Iterable[CryptoSigner], now: datetime) -> bytes:
    """targets.json of the image repository: no target of its own, one terminating delegation per profile."""
    delegated = {
        role_of(profile): DelegatedRole(role_of(profile), [key.keyid], 1, terminating=True, paths=[f"bundles/{profile}/*"])
        for profile, key in profiles.items()
    }
    delegations = Delegations({key.keyid: key for key in profiles.values()}, delegated)
    return _signed(Targets(version, _SPEC, _after(now, YEAR), {}, delegations), signers)


def empty_role(version: int, signer: CryptoSigner, now: datetime, life: timedelta = MONTH) -> bytes:
    return _signed(Targets(version, _SPEC, _after(now, life), {}), [signer])


def snapshot(version: int, versions: Mapping[str, int], signer: CryptoSigner, now: datetime, life: timedelta = MONTH) -> bytes:
    """snapshot.json; `versions` maps `targets` and each delegated role to its version."""
    meta = {f"{role}.json": MetaFile(number) for role, number in versions.items()}
    return _signed(Snapshot(version, _SPEC, _after(now, life), meta), [signer])


def timestamp(version: int, snapshot_version: int, signer: CryptoSigner, now: datetime, life: timedelta = DAY) -> bytes:
    return _signed(Timestamp(version, _SPEC, _after(now, life), MetaFile(snapshot_version)), [signer])


_SPEC = "1.0.31"


def _after(now: datetime, life: timedelta) -> datetime:
    return (now + life).replace(microsecond=0)  # TUF dates have whole seconds


def _signed(signed: Root | Targets | Snapshot | Timestamp, signers: Iterable[CryptoSigner]) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()
