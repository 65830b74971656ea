"""Processes without threads: the end of one is an event from its pidfd; a command's output comes back as text."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Owner:
    """Numeric identity of a process; no entry in /etc/passwd is needed."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Done:
    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def environment(home: Path, user: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of the caller's own environment goes in, so that a stray SKERRY_* cannot."""
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(home), "USER": user, "LOGNAME": user, **(more or {})}


@contextlib.asynccontextmanager
async def ended(process: subprocess.Popen[bytes]) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the process ends: no thread, no SIGCHLD handler. The caller collects it by `wait()`."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    descriptor = os.pidfd_open(process.pid)

    def set_once() -> None:
        loop.remove_reader(descriptor)
        event.set()

    loop.add_reader(descriptor, set_once)
    try:
        yield event
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def command(argv: Sequence[str], owner: Owner | None, env: Mapping[str, str], given: str = "") -> Done:
    """Run a command to its end as `owner` (None: the caller); killed when the caller is cancelled."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(given.encode())
        stdin.seek(0)
        process = subprocess.Popen(  # noqa: ASYNC220  # the wait below is not a blocking one
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd="/",
            env=dict(env),
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=owner.groups if owner else None,
        )
        try:
            async with ended(process) as end:
                await end.wait()
        finally:
            if process.poll() is None:
                process.kill()
            returncode = process.wait()
        stdout.seek(0)
        stderr.seek(0)
        return Done(tuple(argv), returncode, stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace"))
