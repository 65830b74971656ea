"""The blob folder as the signer sees it: somebody else's. Nothing in it is believed but what we hash ourselves."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from contracts.errors import error
from contracts.manifest import CHUNK_BYTES, Member


class Blobs:
    """Reads `folder`/<first two digits>/<sha256>. Raises RejectedError SIGNER_MANIFEST for what is absent, odd or too long."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, digest: str, limit_bytes: int) -> bytes:
        """The whole blob, with its digest checked."""
        data = b"".join(self._pieces(digest, limit_bytes))
        if hashlib.sha256(data).hexdigest() != digest:
            raise error("SIGNER_MANIFEST", digest, "the blob has other bytes")
        return data

    def measure(self, digest: str, limit_bytes: int) -> Member:
        """Digest, length and chunk digests of the blob's real bytes."""
        whole, length, chunks = hashlib.sha256(), 0, []
        for piece in self._pieces(digest, limit_bytes):
            whole.update(piece)
            length += len(piece)
            chunks.append(hashlib.sha256(piece).hexdigest())
        return Member(sha256=whole.hexdigest(), length=length, chunks=tuple(chunks))

    def _pieces(self, digest: str, limit_bytes: int) -> Iterator[bytes]:
        """CHUNK_BYTES each. A link, pipe or device in the place of a blob is refused, not followed or waited for."""
        path = self._folder / digest[:2] / digest
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as absent:
            raise error("SIGNER_MANIFEST", digest, absent.strerror or "cannot be read") from absent
        with open(descriptor, "rb") as blob:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise error("SIGNER_MANIFEST", digest, "not a file")
            left = limit_bytes
            while piece := blob.read(CHUNK_BYTES):
                left -= len(piece)
                if left < 0:
                    raise error("SIGNER_MANIFEST", digest, f"longer than {limit_bytes} bytes")
                yield piece
