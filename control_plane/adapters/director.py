"""The director repository of one device: TUF metadata as a pure function of its desired row.

All three online roles have one version, the row's `director_version`, and one key. The same row gives the same bytes
(Ed25519 is deterministic), so replicas need not agree on anything but the row. Nothing here is stored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from contracts.assignment import ASSIGNMENT_TARGET, AckKey, Assignment
from contracts.canonical import canonical_json

_COMPACT = JSONSerializer(compact=True)


@dataclass(frozen=True)
class Desired:
    """What the desired row says; `order` holds the assignment's fields apart from device, generation and time."""

    device: str
    generation: int
    director_version: int
    issued_utc: datetime
    order: dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is equal in every device's assignment."""

    life_s: float
    poll_interval_s: float
    report_window_s: float
    security_epoch_floor: int
    ack_keys: tuple[AckKey, ...] = ()


@dataclass(frozen=True)
class DirectorFiles:
    """One version of a device's director repository. `etag` is that of timestamp.json, ready for the header."""

    version: int
    etag: bytes
    half_life_utc: datetime
    files: dict[str, bytes] = field(repr=False)


class Director:
    """Holds the director's online key."""

    def __init__(self, private_key: Path, settings: Settings) -> None:
        key = load_pem_private_key(private_key.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the director's key is not Ed25519")
        self._signer, self.settings = CryptoSigner(key), settings

    def files(self, desired: Desired) -> DirectorFiles:
        """assignment.json and its signed targets, snapshot and timestamp."""
        version, expires = desired.director_version, self._expires(desired)
        content = self.assignment(desired)
        targets = Targets(version=version, expires=expires)
        targets.targets[ASSIGNMENT_TARGET] = TargetFile.from_data(ASSIGNMENT_TARGET, content, ["sha256"])
        snapshot = Snapshot(version=version, expires=expires, meta={"targets.json": MetaFile(version)})
        timestamp = Timestamp(version=version, expires=expires, snapshot_meta=MetaFile(version))
        files = {f"{role.type}.json": self._signed(role) for role in (targets, snapshot, timestamp)}
        etag = f'"{hashlib.sha256(files["timestamp.json"]).hexdigest()}"'.encode()
        half = desired.issued_utc + timedelta(seconds=self.settings.life_s / 2)
        return DirectorFiles(version, etag, half, {**files, ASSIGNMENT_TARGET: content})

    def assignment(self, desired: Desired) -> bytes:
        """The bytes of assignment.json."""
        common = self.settings
        assignment = Assignment.model_validate(
            {
                **desired.order, "device": desired.device, "desired_generation": desired.generation, "issued_at": desired.issued_utc,
                "security_epoch_floor": common.security_epoch_floor, "poll_interval_s": common.poll_interval_s,
                "report_window_s": common.report_window_s, "ack_keys": common.ack_keys,
            }
        )  # fmt: skip
        return canonical_json(assignment.model_dump(mode="json"))

    def _expires(self, desired: Desired) -> datetime:
        # TUF's times are whole seconds
        return (desired.issued_utc + timedelta(seconds=self.settings.life_s)).replace(microsecond=0)

    def _signed(self, role: Targets | Snapshot | Timestamp) -> bytes:
        metadata: Metadata[Any] = Metadata(role)
        metadata.sign(self._signer)
        return metadata.to_bytes(_COMPACT)


def root(folder: Path, name: str) -> bytes | None:
    """`<N>.root.json` of the director, as the people who hold its root put it there; None when there is no such version."""
    number, _, rest = name.partition(".")
    if rest != "root.json" or not (number.isascii() and number.isdigit()):
        return None
    try:
        return (folder / f"{int(number)}.root.json").read_bytes()
    except FileNotFoundError:
        return None
