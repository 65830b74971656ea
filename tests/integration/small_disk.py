"""A real small file system for one test: it is filled to the last byte, emptied again, or taken away from writers as a kernel does.

`full` and `room` act on what anybody sees; nothing of the program under test is replaced. Mounting needs root: elsewhere the test is
not run, for the reason that tests/conftest.py lists.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MEGABYTE = 1024 * 1024


class SmallDisk:
    """A mounted folder of so many bytes. `kind` tmpfs, or ext4 in a file, which can lose its journal."""

    def __init__(self, folder: Path, megabytes: int = 64, kind: str = "tmpfs") -> None:
        self.folder, self._ballast = folder, folder / "ballast"
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "tmpfs":
            _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder))
            return
        image = folder.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(megabytes * MEGABYTE)
        subprocess.run([_program("mkfs.ext4"), "-q", "-F", "-m", "0", str(image)], check=True)
        _mount("-o", "loop", str(image), str(folder))

    def full(self, leave_bytes: int = 0) -> None:
        """Write until nothing goes any more, then give `leave_bytes` back."""
        with self._ballast.open("ab", buffering=0) as file:
            for piece in (MEGABYTE, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * piece):
                        pass
            file.truncate(max(0, file.tell() - leave_bytes))
        assert leave_bytes or not _takes(self.folder)

    def room(self) -> None:
        self._ballast.unlink()

    def read_only(self) -> None:
        """What a kernel does after errors of the medium: no writer is asked, descriptors that are open stay open."""
        subprocess.run(["mount", "-o", "remount,abort", str(self.folder)], check=True)
        assert not _takes(self.folder)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int = 64, kind: str = "tmpfs") -> Iterator[SmallDisk]:
    disk = SmallDisk(folder, megabytes, kind)
    try:
        yield disk
    finally:
        disk.close()


@contextmanager
def read_only_view(folder: Path) -> Iterator[Path]:
    """`folder` as a read-only bind mount of itself: root ignores modes, but not this."""
    _mount("--bind", str(folder), str(folder))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"no {name} on this machine")
    return found


def _mount(*arguments: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: a small disk is mounted")
    done = subprocess.run([_program("mount"), *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"needs root: that may mount, here mount says {done.stderr.strip()[-60:]}")


def _takes(folder: Path) -> bool:
    probe = folder / "probe"
    try:
        probe.write_bytes(b"x" * 4096)
    except OSError as refused:
        if refused.errno not in (errno.ENOSPC, errno.EROFS):
            raise
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return True
