"""PURE: between two programs there are only the listed sockets and files. Given what a process holds, what is not on the list?

Sockets: the three listeners of the control plane, the broker's, the signer's Unix socket, each agent's below its own run folder.
Files: a program's own folders; and shared by two: configuration, the blob folder, the image folder, the lake, public pins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SYSTEM = ("/dev/", "/proc/", "/sys/", "/usr/", "/etc/", "/lib/", "/memfd:")  # the operating system's own


@dataclass(frozen=True)
class Allowed:
    """Folders (any depth), ports and Unix socket folders of one program."""

    folders: tuple[str, ...]
    listens: frozenset[int] = frozenset()
    connects: frozenset[int] = frozenset()
    unix: tuple[str, ...] = ()


def strays(allowed: Allowed, files: Iterable[str], listens: Iterable[int], peers: Iterable[int], unix: Iterable[str]) -> list[str]:
    """What is held and not allowed, in words; [] when all is as listed."""
    folders = (*SYSTEM, *(folder.rstrip("/") + "/" for folder in allowed.folders))
    return [
        *(f"file {path}" for path in sorted(files) if not path.startswith(folders) and path not in allowed.folders),
        *(f"listens on {port}" for port in sorted(set(listens) - allowed.listens)),
        *(f"connected to port {port}" for port in sorted(set(peers) - allowed.connects)),
        *(f"serves {path}" for path in sorted(unix) if not path.startswith(tuple(folder.rstrip("/") + "/" for folder in allowed.unix))),
    ]
