"""A disk that does not take writes: full, over a quota, read-only, somebody else's, broken. These causes become codes."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.errors import error

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_WRITES = NO_SPACE | {errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}


@contextmanager
def writing(code: str, thing: object, phase: str, causes: frozenset[int] = NO_WRITES) -> Iterator[None]:
    """An OSError of such a cause becomes `error(code, thing, "<phase>: <cause>")`."""
    try:
        yield
    except OSError as failed:
        if failed.errno not in causes:
            raise
        raise error(code, str(thing), f"{phase}: {failed.strerror}") from failed


def require_writable(*folders: Path) -> None:
    """Raises LocalFaultError SETUP_STATE_DISK for a folder in which no file can be made. Nothing is left behind, nothing is created."""
    for folder in folders:
        with writing("SETUP_STATE_DISK", folder, "trying to write"), tempfile.TemporaryFile(dir=_nearest(folder)):
            pass


def _nearest(folder: Path) -> Path:
    """`folder`, or the first one above it that is there: the program makes the rest with modes of its own."""
    return folder if folder.exists() else _nearest(folder.parent)
