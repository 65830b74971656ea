"""The signer's memory of all time: the last version number of each role, and which digest each target path was signed with.

Saved before anything is signed, so that a crash can lose a number but never issue one twice. It lies in the signer's own
state folder; the published repository may be restored from a backup without making the signer forget.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from contracts.canonical import canonical_json
from contracts.errors import error
from program.files import write_durably

Writer = Callable[[Path, bytes], None]
SCHEMA = 1


class Record:
    def __init__(self, path: Path, write: Writer = write_durably) -> None:
        self._path, self._write = path, write
        self.versions: dict[str, int] = {}
        self.signed: dict[str, str] = {}
        if path.exists():
            self._load()

    def reserve(self, published: Mapping[str, int], roles: list[str], targets: Mapping[str, str]) -> dict[str, int]:
        """A new version for each of `roles`, above what is published and above what was ever reserved; and `targets` (path -> digest)
        are from now on signed with these digests only."""
        reserved = {role: max(published.get(role, 0), self.versions.get(role, 0)) + 1 for role in roles}
        versions, signed = {**self.versions, **reserved}, {**self.signed, **targets}
        self._write(self._path, canonical_json({"schema": SCHEMA, "versions": versions, "signed": signed}))
        self.versions, self.signed = versions, signed
        return reserved

    def _load(self) -> None:
        try:
            value = json.loads(self._path.read_bytes())
            if value["schema"] != SCHEMA:
                raise ValueError(f"schema {value['schema']}")
            self.versions, self.signed = dict(value["versions"]), dict(value["signed"])
        except (OSError, ValueError, KeyError, TypeError) as broken:
            raise error("SIGNER_REPOSITORY", str(self._path), str(broken)) from broken
