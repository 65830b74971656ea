"""The rim through which the lake's files become durable. delta-rs itself never calls fsync on a local disk.

Order, and why: data file and its folders before the commit, or a power cut could leave a log entry that names a file which is
not there; log entry and its folder after the commit and before any ack, or an acked batch could vanish.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from program.files import fsync_file, fsync_folder


class Durability(Protocol):
    def file(self, path: Path) -> None:
        """Returns when the file's bytes are on disk."""

    def folder(self, path: Path) -> None:
        """Returns when the folder's names are on disk."""


class LocalDisk:
    """fsync(2). The two calls are handed in so that a test can see that they really happen."""

    def __init__(self, sync_file: Callable[[Path], None] = fsync_file, sync_folder: Callable[[Path], None] = fsync_folder) -> None:
        self._sync_file, self._sync_folder = sync_file, sync_folder

    def file(self, path: Path) -> None:
        self._sync_file(path)

    def folder(self, path: Path) -> None:
        self._sync_folder(path)
