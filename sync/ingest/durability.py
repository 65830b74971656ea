"""The rim through which the lake's files become durable. delta-rs itself never calls fsync on a local disk.

Order, and why: data file and its folders before the commit, or a power cut could leave a log entry that names a file which is
not there; log entry and its folder after the commit and before any ack, or an acked batch could vanish.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from program.files import fsync_file, fsync_folder


class Durability(Protocol):
    def file(self, path: Path) -> None:
        """Returns when the file's bytes are on disk."""

    def folder(self, path: Path) -> None:
        """Returns when the folder's names are on disk."""


class LocalDisk:
    def file(self, path: Path) -> None:
        fsync_file(path)

    def folder(self, path: Path) -> None:
        fsync_folder(path)
