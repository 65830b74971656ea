"""The published image repository, read back from disk. Consistent snapshots: only timestamp.json is ever replaced.

What is current is what timestamp.json leads to; files that nothing names yet were left by an interrupted publication.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from contracts.errors import error

T = TypeVar("T", Root, Snapshot, Targets, Timestamp)


class Repository:
    """Reads `folder`. Raises LocalFaultError SIGNER_REPOSITORY when a file that must be there is missing or broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[Repository]:
        """One publisher at a time: the signer, or a ceremony that adds a profile. The kernel frees it when its holder dies."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield self
        finally:
            os.close(descriptor)

    def root(self) -> Root:
        version = 1
        while (self.folder / f"{version + 1}.root.json").exists():
            version += 1
        return self._read(f"{version}.root.json", Root)

    def timestamp(self) -> Timestamp:
        return self._read("timestamp.json", Timestamp)

    def snapshot(self) -> Snapshot:
        return self._read(f"{self.timestamp().snapshot_meta.version}.snapshot.json", Snapshot)

    def targets(self) -> Targets:
        return self.role("targets")

    def role(self, name: str) -> Targets:
        """The current metadata of `targets` or of a delegated role."""
        return self._read(f"{self.snapshot().meta[f'{name}.json'].version}.{name}.json", Targets)

    def versions(self) -> dict[str, int]:
        """Role -> published version, of every role that the current timestamp leads to."""
        snapshot = self.snapshot()
        named = {name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()}
        return {"root": self.root().version, **named, "snapshot": snapshot.version, "timestamp": self.timestamp().version}

    def current(self) -> dict[str, Signed]:
        """Role -> its current metadata, for those who ask what it holds or when it expires."""
        delegated = [name.removesuffix(".json") for name in self.snapshot().meta]
        return {"root": self.root(), **{n: self.role(n) for n in delegated}, "snapshot": self.snapshot(), "timestamp": self.timestamp()}

    def _read(self, name: str, kind: type[T]) -> T:
        try:
            signed = Metadata.from_bytes((self.folder / name).read_bytes()).signed
        except (OSError, RepositoryError) as broken:
            raise error("SIGNER_REPOSITORY", str(self.folder / name), str(broken)) from broken
        if not isinstance(signed, kind):
            raise error("SIGNER_REPOSITORY", str(self.folder / name), f"not a {kind.__name__}")
        return signed
