"""Which ports a local site listens on, and who has one that is not free."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import error

LISTEN = "0A"  # state in /proc/net/tcp


@dataclass(frozen=True)
class Ports:
    operators: int = 8484
    devices: int = 8443
    enrolment: int = 8444
    mqtt: int = 8883

    @classmethod
    def from_base(cls, base: int | None) -> Ports:
        """The documented ports, or four in a row from `base`."""
        return cls() if base is None else cls(base, base + 1, base + 2, base + 3)


def check_free(ports: Ports, host: str = "127.0.0.1") -> None:
    """LocalFaultError SETUP_PORT_BUSY, with the owner's name and pid where they can be seen."""
    for use, port in vars(ports).items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as busy:
                if busy.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                raise error("SETUP_PORT_BUSY", f"port {port} ({use})", f"held by {owner(port)}") from busy


def owner(port: int) -> str:
    """`name (pid N)` of the process that listens on `port`; "another user's process" when /proc does not tell."""
    inodes = listening(port)
    for folder in Path("/proc").glob("[0-9]*"):
        if inodes & sockets(int(folder.name)).keys():
            return f"{(folder / 'comm').read_text().strip()} (pid {folder.name})"
    return "another user's process"


def listening(port: int) -> set[str]:
    """Inodes of the TCP sockets that listen on `port`."""
    return {inode for inode, (local_port, state) in _tcp().items() if local_port == port and state == LISTEN}


def sockets(pid: int) -> dict[str, int]:
    """Socket inodes that `pid` holds -> file descriptor; {} when it may not be looked at."""
    found = {}
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.startswith("socket:["):
                    found[target[len("socket:[") : -1]] = int(descriptor)
    return found


def _tcp() -> dict[str, tuple[int, str]]:
    rows = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                rows[fields[9]] = (int(fields[1].rpartition(":")[2], 16), fields[3])
    return rows
