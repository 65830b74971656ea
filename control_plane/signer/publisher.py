"""Signs and publishes: profile roles first, then the snapshot that names them, the timestamp that names the snapshot last.

Every file but timestamp.json has a new name, and each is fsynced before the next one is written: whenever the machine stops,
clients see the old release or the new one, whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from contracts.errors import error
from control_plane.signer.decision import Target
from control_plane.signer.record import Record, Writer
from control_plane.signer.repository import Repository
from program.files import write_durably

SNAPSHOT, TIMESTAMP = "snapshot", "timestamp"


def role_of(profile: str) -> str:
    """The delegated role of a profile; its key lies in `<role>.pem`, its metadata in `<version>.<role>.json`."""
    return f"profile-{profile}"


@dataclass(frozen=True)
class Lives:
    """How long new metadata are good; they are renewed when half of it has passed."""

    role: timedelta
    snapshot: timedelta
    timestamp: timedelta

    def of(self, role: str) -> timedelta:
        return {SNAPSHOT: self.snapshot, TIMESTAMP: self.timestamp}.get(role, self.role)


class Publisher:
    """`keys`: role -> its signing key. `record` is the memory of all time, the repository what the world sees."""

    def __init__(
        self, repository: Repository, record: Record, keys: Mapping[str, CryptoSigner], lives: Lives, write: Writer = write_durably
    ) -> None:
        self.repository, self.record, self._keys, self._lives, self._write = repository, record, keys, lives, write

    def publish(self, targets: Sequence[Target], now: datetime) -> None:
        """Add `targets` to their profiles' roles, all in one snapshot. What is published already is not signed again."""
        with self.repository.locked():
            current = {role_of(target.profile): self._current(role_of(target.profile)) for target in targets}
            new = [target for target in targets if target.path not in current[role_of(target.profile)].targets]
            for target in new:
                content = TargetFile(target.length, {"sha256": target.sha256}, target.path)
                current[role_of(target.profile)].targets[target.path] = content
            if new:
                changed = {role_of(target.profile): current[role_of(target.profile)] for target in new}
                self._publish(changed, now, {target.path: target.sha256 for target in new})

    def renew(self, now: datetime) -> list[str]:
        """Sign what is past half its life again, with the same content; the roles that were due."""
        with self.repository.locked():
            current = self.repository.current()
            due = [role for role in self._keys if role in current and now >= current[role].expires - self._lives.of(role) / 2]
            if due:
                self._publish({role: self._current(role) for role in due if role not in (SNAPSHOT, TIMESTAMP)}, now, {}, due)
            return due

    def next_renewal(self) -> datetime:
        current = self.repository.current()
        return min(current[role].expires - self._lives.of(role) / 2 for role in self._keys if role in current)

    def _current(self, role: str) -> Targets:
        if role not in self._keys:
            raise error("SIGNER_MANIFEST", role, "there is no key for this profile: skerry-ceremony add-profile")
        return self.repository.role(role)

    def _publish(self, changed: Mapping[str, Targets], now: datetime, signed: Mapping[str, str], due: Sequence[str] = ()) -> None:
        published = self.repository.versions()
        with_snapshot = bool(changed) or SNAPSHOT in due
        roles = [*changed, *([SNAPSHOT] if with_snapshot else []), TIMESTAMP]
        versions = self.record.reserve(published, roles, signed)  # durable before the first signature
        for role, metadata in changed.items():
            metadata.version, metadata.expires = versions[role], self._expiry(role, now)
            self._sign_and_write(role, Metadata(metadata), f"{versions[role]}.{role}.json")
        if with_snapshot:
            meta = {**self.repository.snapshot().meta, **{f"{role}.json": MetaFile(versions[role]) for role in changed}}
            snapshot = Snapshot(versions[SNAPSHOT], expires=self._expiry(SNAPSHOT, now), meta=meta)
            self._sign_and_write(SNAPSHOT, Metadata(snapshot), f"{versions[SNAPSHOT]}.snapshot.json")
        named = MetaFile(versions.get(SNAPSHOT, published[SNAPSHOT]))
        timestamp = Timestamp(versions[TIMESTAMP], expires=self._expiry(TIMESTAMP, now), snapshot_meta=named)
        self._sign_and_write(TIMESTAMP, Metadata(timestamp), "timestamp.json")

    def _sign_and_write(self, role: str, metadata: Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp], name: str) -> None:
        metadata.sign(self._keys[role])
        self._write(self.repository.folder / name, metadata.to_bytes())

    def _expiry(self, role: str, now: datetime) -> datetime:
        return (now + self._lives.of(role)).replace(microsecond=0)  # TUF dates have whole seconds
