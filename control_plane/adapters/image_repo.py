"""Reads the image repository that skerry-signer publishes. Read-only; no name leaves the folder."""

from __future__ import annotations

import re
from pathlib import Path

from contracts.canonical import sha256_hex

_METADATA = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}\.json")
MAX_METADATA_BYTES = 8 * 1024 * 1024


class ImageRepository:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def metadata(self, name: str) -> bytes | None:
        """`[<N>.]<role>.json`, or None: metadata lie flat in the folder, so a name with a slash is none of them."""
        if not _METADATA.fullmatch(name):
            return None
        path = self._folder / name
        try:
            if path.is_symlink() or path.stat().st_size > MAX_METADATA_BYTES:
                return None
            return path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return None

    @staticmethod
    def etag(content: bytes) -> str:
        return f'"{sha256_hex(content)}"'


_TARGET = re.compile(r"targets/bundles/[a-z0-9-]+/(?P<digest>[0-9a-f]{64})\.[a-z][a-z0-9_-]*-[0-9]+\.json")


def target_digest(path: str) -> str | None:
    """The sha256 in a consistent-snapshot target path `targets/bundles/<profile>/<sha256>.<name>-<n>.json`, or None."""
    found = _TARGET.fullmatch(path)
    return found["digest"] if found else None
