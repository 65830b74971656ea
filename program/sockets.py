"""Who listens on a port, from /proc: a message about a busy port names the program that has to be stopped."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LISTEN, ESTABLISHED = "0A", "01"  # states in /proc/net/tcp
COMMAND_CHARACTERS = 120


@dataclass(frozen=True)
class Tcp:
    """One line of the kernel's table."""

    local_port: int
    remote_port: int
    state: str
    uid: int


def port_owner(port: int) -> str:
    """`command line (pid N)` of the process that listens on `port`; its user where /proc tells no more."""
    listening = {inode: line for inode, line in tcp().items() if line.local_port == port and line.state == LISTEN}
    sockets = {f"socket:[{inode}]" for inode in listening}
    for pid in _pids():
        with contextlib.suppress(OSError):
            if not sockets.isdisjoint(descriptors(pid)):
                return f"{_command(pid)} (pid {pid})"
    return f"a process of user {_user(listening)}"


def tcp() -> dict[str, Tcp]:
    """inode -> connection or listener, of this network namespace."""
    rows = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                rows[fields[9]] = Tcp(_port(fields[1]), _port(fields[2]), fields[3], int(fields[7]))
    return rows


def descriptors(pid: int) -> Iterator[str]:
    """What each open descriptor of the process leads to. Raises OSError when that may not be seen."""
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{descriptor}")


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _command(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
    return words if len(words) <= COMMAND_CHARACTERS else words[:COMMAND_CHARACTERS] + "..."


def _user(listening: dict[str, Tcp]) -> str:
    uid = next((line.uid for line in listening.values()), None)
    if uid is None:
        return "unknown"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
