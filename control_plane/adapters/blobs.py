"""Blob store: a folder of immutable files named by their sha256, `<first two digits>/<sha256>`.

Rules: bytes are hashed while they stream to a temporary file; only a file whose digest is the one asked for gets its name,
after fsync of file and folder; an existing blob is never written again (the same digest is the same bytes). A disk that takes no
writes is API_STORAGE: the upload is refused, nothing of it stays, and what is there is served on.
Written by skerry-control only; readable by the signer and the builder's downloads, hence mode 0644.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from contracts.canonical import sha256_hex
from contracts.errors import error
from program.disk import writing
from program.files import fsync_folder

MAX_BLOB_BYTES = 256 * 1024 * 1024
READ_BYTES = 256 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".incoming").mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where `digest` lies or would lie. Raises API_NOT_FOUND when it is not 64 hex digits: it never leaves the folder."""
        if not _DIGEST.fullmatch(digest):
            raise error("API_NOT_FOUND", digest[:80], "not a sha256")
        return self.folder / digest[:2] / digest

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Bytes of the blob; raises API_NOT_FOUND."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as absent:
            raise error("API_NOT_FOUND", digest, "no such blob") from absent

    def read(self, digest: str) -> bytes:
        """The whole blob, not checked again; raises API_NOT_FOUND."""
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError as absent:
            raise error("API_NOT_FOUND", digest, "no such blob") from absent

    def stream(self, digest: str, first: int = 0, length: int | None = None) -> Iterator[bytes]:
        """`length` bytes from `first` on, in pieces; opens the file at once, so that a missing blob is met here."""
        left = self.size(digest) - first if length is None else length
        handle = self.path(digest).open("rb")

        def pieces(left: int) -> Iterator[bytes]:
            with handle:
                handle.seek(first)
                while left > 0 and (piece := handle.read(min(READ_BYTES, left))):
                    left -= len(piece)
                    yield piece

        return pieces(left)

    def put(self, data: bytes) -> str:
        """Store `data`; its digest."""
        digest = sha256_hex(data)
        if not self.has(digest):
            with self._storing(digest), _Incoming(self.folder / ".incoming") as incoming:
                incoming.write(data)
                self._publish(incoming, digest)
        return digest

    async def receive(self, digest: str, body: AsyncIterable[bytes], limit_bytes: int = MAX_BLOB_BYTES) -> bool:
        """Store the streamed body under `digest`; True when it is new.

        Raises API_DIGEST when the bytes have another digest, API_TOO_LARGE beyond `limit_bytes`, API_STORAGE.
        """
        self.path(digest)
        with self._storing(digest), _Incoming(self.folder / ".incoming") as incoming:
            async for piece in body:
                if incoming.length + len(piece) > limit_bytes:
                    raise error("API_TOO_LARGE", digest, f"more than {limit_bytes} bytes")
                incoming.write(piece)
            if incoming.digest != digest:
                raise error("API_DIGEST", digest, f"the body's sha256 is {incoming.digest}")
            if self.has(digest):
                return False
            self._publish(incoming, digest)
        return True

    def _storing(self, digest: str) -> AbstractContextManager[None]:
        return writing("API_STORAGE", self.folder, f"storing blob {digest}")

    def _publish(self, incoming: _Incoming, digest: str) -> None:
        final = self.path(digest)
        if not final.parent.is_dir():
            final.parent.mkdir(exist_ok=True)
            fsync_folder(self.folder)
        incoming.name(final)
        fsync_folder(final.parent)


class _Incoming:
    """A temporary file that is gone at the end of the block unless it got its name."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / secrets.token_hex(8)
        self._hash = hashlib.sha256()
        self.length = 0

    def __enter__(self) -> _Incoming:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        os.fchmod(self._descriptor, 0o644)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.length += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def name(self, final: Path) -> None:
        os.fsync(self._descriptor)
        os.rename(self._path, final)
