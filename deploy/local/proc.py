"""What /proc says of a running program and its children: who they are, their memory, their sockets and open files."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from program.sockets import LISTEN, descriptors, tcp

_UNIX_LISTENS = 0x10000  # __SO_ACCEPTCON in /proc/net/unix


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: tuple[str, ...]

    @property
    def role(self) -> str:
        """`worker`, `pipeline` of an agent's child, by its command; else the program's file name."""
        text = " ".join(self.command)
        for role in ("worker", "pipeline", "oip"):
            if re.search(rf"(edge_agent\S*|-m \S*)\b{role}\b", text):
                return role
        return Path(self.command[1] if len(self.command) > 1 and "python" in self.command[0] else self.command[0]).name


@dataclass(frozen=True)
class Memory:
    rss_kb: int
    pss_kb: int


@dataclass(frozen=True)
class OpenThings:
    """What a process holds now. Paths of files; ports by direction; paths of Unix sockets that it serves."""

    files: frozenset[str]
    tcp_listens: frozenset[int]
    tcp_peers: frozenset[int]  # remote ports of connections that this process opened
    unix_serves: frozenset[str]


def tree(pid: int) -> list[Process]:
    """The process and its descendants, parents first."""
    everybody = {process.pid: process for process in _all()}
    found = [everybody[pid]] if pid in everybody else []
    for process in found:
        found += [child for child in everybody.values() if child.parent == process.pid]
    return found


def memory(pid: int) -> Memory:
    """Resident and proportional set size; zeros for a process that has ended."""
    sizes = {"Rss": 0, "Pss": 0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in sizes:
                sizes[name] = int(rest.split()[0])
    return Memory(sizes["Rss"], sizes["Pss"])


def uid(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid


def open_things(pid: int) -> OpenThings:
    """Raises FileNotFoundError when the process has ended meanwhile."""
    targets = set(descriptors(pid))
    sockets = {target[len("socket:[") : -1] for target in targets if target.startswith("socket:[")}
    table, listening = tcp(), set()
    peers = set()
    for inode in sockets & table.keys():
        line = table[inode]
        if line.state == LISTEN:
            listening.add(line.local_port)
        else:
            peers.add((line.local_port, line.remote_port))
    serves = {path for inode, (path, _) in _unix().items() if inode in sockets and path}
    # of a connection that it accepted, the local port is one that somebody listens on
    everybodys = {line.local_port for line in table.values() if line.state == LISTEN}
    return OpenThings(
        files=frozenset(target for target in targets if target.startswith("/")),
        tcp_listens=frozenset(listening),
        tcp_peers=frozenset(remote for local, remote in peers if local not in everybodys),
        unix_serves=frozenset(serves),
    )


def _all() -> Iterator[Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
            command = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            yield Process(int(folder.name), parent, tuple(command))


def _unix() -> dict[str, tuple[str, bool]]:
    """inode -> (path, listens)"""
    rows = {}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        rows[fields[6]] = (fields[7] if len(fields) > 7 else "", bool(int(fields[3], 16) & _UNIX_LISTENS))
    return rows
