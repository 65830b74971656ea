"""A disk that does not take writes: full, over a quota, read-only, somebody else's, broken. These causes become codes."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
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


def take(folder: Path) -> int:
    """A descriptor that holds `folder` for this process until it ends: a second one would send the same numbers with other rows.

    Raises LocalFaultError SETUP_STATE_TAKEN.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as taken:
        os.close(descriptor)
        raise error("SETUP_STATE_TAKEN", str(folder)) from taken
    return descriptor


def database_as_it_is(path: Path, form: int) -> sqlite3.Connection | None:
    """A SQLite file in WAL mode that cannot be opened for writing, as its last writer left it; every write to it is refused.

    None when there is nothing of this `form` (user_version) to read. What a killed writer left in its log is read with it, by the index
    that it left too.
    """
    if not path.exists():
        return None
    log = path.with_name(f"{path.name}-wal")
    how = "mode=ro" if log.is_file() and log.stat().st_size else "immutable=1"
    db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, check_same_thread=False, isolation_level=None)
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] == form:
            return db
    except sqlite3.Error:
        pass  # nothing that can be read
    db.close()
    return None


def require_writable(*folders: Path) -> None:
    """Raises LocalFaultError SETUP_STATE_DISK for a folder in which no file can be made. Nothing is left behind, nothing is created."""
    for folder in folders:
        with writing("SETUP_STATE_DISK", folder, "trying to write"), tempfile.TemporaryFile(dir=_nearest(folder)):
            pass


def _nearest(folder: Path) -> Path:
    """`folder`, or the first one above it that is there: the program makes the rest with modes of its own."""
    return folder if folder.exists() else _nearest(folder.parent)
