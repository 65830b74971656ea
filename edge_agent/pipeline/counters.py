"""Frames, accepted rows and refusals since the run folder was made: shared by agent and pipeline through one mapped file.

The file outlives a SIGKILL of either (a reboot clears the run folder), so that

    frames = accepted + refused + kept + pending

holds always, with pending = 0 when nothing is on its way. Each word has one writer: the pipeline counts a frame when it is due, before
anything can happen to it, and a refusal, or a row that stays here, when it is certain; the agent counts accepted rows once they are
durable. While no pipeline runs, the agent turns what was still pending into refusals. `frames` is also the number of the next frame:
numbers are dense over restarts. Rows of feature windows are no frames: of these only the refused ones are counted here, by the pipeline;
the accepted ones stand in the ledger of lane `windows`.
"""

from __future__ import annotations

import mmap
import os
import struct
from enum import IntEnum
from pathlib import Path

_MAGIC = b"SKRCNTR1"
_BYTES = 64
_WORD = struct.Struct("<Q")


class Count(IntEnum):
    FRAMES = 0
    ACCEPTED = 1
    REFUSED = 2
    LEDGER_BASE = 3  # the ledger's accepted rows when this file was made
    KEPT = 4  # answered frames of a bundle whose rows stay on the device: only windows leave
    WINDOW_ROWS_REFUSED = 5  # by a full queue or by the outbox


class Counters:
    def __init__(self, descriptor: int) -> None:
        """Maps the file; the caller keeps and closes the descriptor. Raises ValueError when it is another file."""
        self._words = mmap.mmap(descriptor, _BYTES)
        if self._words[:8] != _MAGIC:
            raise ValueError("not a file of counters")

    def get(self, which: Count) -> int:
        return int(_WORD.unpack_from(self._words, 8 + 8 * which)[0])

    def set(self, which: Count, value: int) -> None:
        _WORD.pack_into(self._words, 8 + 8 * which, value)

    def add(self, which: Count, more: int = 1) -> int:
        """The value before."""
        before = self.get(which)
        self.set(which, before + more)
        return before

    def clear(self) -> None:
        for which in Count:
            self.set(which, 0)

    def pending(self) -> int:
        """Frames whose outcome is not known yet."""
        return self.get(Count.FRAMES) - sum(self.get(settled) for settled in (Count.ACCEPTED, Count.REFUSED, Count.KEPT))

    def close(self) -> None:
        self._words.close()


def open_file(path: Path) -> tuple[int, bool]:
    """(descriptor, whether the file is new)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    new = os.fstat(descriptor).st_size != _BYTES or os.pread(descriptor, 8, 0) != _MAGIC
    if new:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _MAGIC.ljust(_BYTES, b"\0"), 0)
    return descriptor, new
