"""Members of bundles by their sha256: resumed by Range, checked chunk by chunk before more is fetched, synced to disk.

The final file is verified whole by the caller (slot_dirs.py) before the slot gets its name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from contracts.errors import error
from contracts.manifest import CHUNK_BYTES, Member
from edge_agent.adapters.http import Http, refusal


class StoppedError(Exception):
    """The caller asked to stop; what was fetched stays for the next time."""


class BlobClient:
    def __init__(self, http: Http, base_url: str, deadline_s: float) -> None:
        self._http, self._base, self._deadline_s = http, base_url, deadline_s

    def fetch(self, member: Member, path: Path, stopped: Callable[[], bool]) -> None:
        """Complete `path` to the member's bytes.

        Raises TransientError when the server is slow or away, TrustError BUNDLE_MEMBER_DIGEST for wrong bytes, StoppedError.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "r+b") as file:
            have = _good_chunks(file.fileno(), member)
            file.truncate(have)
            file.seek(have)
            if have < member.length:
                for chunk in self._chunks(member, have, stopped):
                    file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def _chunks(self, member: Member, have: int, stopped: Callable[[], bool]) -> Iterator[bytes]:
        url = f"{self._base}/{member.sha256}"
        headers = {"Range": f"bytes={have}-"} if have else None
        with self._http.stream("GET", url, headers=headers, deadline_s=self._deadline_s) as (answer, pieces):
            if answer.status != (206 if have else 200):
                raise refusal(url, answer)
            yield from _verified(member, have // CHUNK_BYTES, pieces, stopped)


def _verified(member: Member, index: int, pieces: Iterator[bytes], stopped: Callable[[], bool]) -> Iterator[bytes]:
    """Whole chunks whose hash is the manifest's, from the piece stream; no byte more than the member has."""
    buffer = bytearray()
    for piece in pieces:
        if stopped():
            raise StoppedError
        buffer += piece
        while index < len(member.chunks) and len(buffer) >= (want := _chunk_length(member, index)):
            chunk = bytes(buffer[:want])
            del buffer[:want]
            _check(member, index, chunk)
            yield chunk
            index += 1
        if buffer and index == len(member.chunks):
            raise error("BUNDLE_MEMBER_DIGEST", member.sha256, f"more than {member.length} bytes")
    if index < len(member.chunks):
        raise error("API_UNREACHABLE", member.sha256, f"ended in chunk {index} of {len(member.chunks)}")


def _chunk_length(member: Member, index: int) -> int:
    return min(CHUNK_BYTES, member.length - index * CHUNK_BYTES)


def _check(member: Member, index: int, chunk: bytes) -> None:
    if hashlib.sha256(chunk).hexdigest() != member.chunks[index]:
        raise error("BUNDLE_MEMBER_DIGEST", member.sha256, f"chunk {index} of {len(member.chunks)}")


def _good_chunks(descriptor: int, member: Member) -> int:
    """Bytes at the start of the file that are the member's, in whole chunks."""
    have = 0
    for index, wanted in enumerate(member.chunks):
        length = _chunk_length(member, index)
        chunk = os.pread(descriptor, length, have)
        if len(chunk) != length or hashlib.sha256(chunk).hexdigest() != wanted:
            break
        have += length
    return have
