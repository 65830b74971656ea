"""What the kernel has counted of a process so far: proc_pid_stat(5)."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """User and system time, by the kernel's clock of 10 ms."""
    user, system = _fields(pid)[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def faults(pid: int) -> int:
    """Page faults that read nothing from a disk."""
    return int(_fields(pid)[7])


def _fields(pid: int) -> list[str]:
    """From the third on: the second is the program's name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
