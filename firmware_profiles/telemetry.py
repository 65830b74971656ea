"""Temperature, memory and CPU time from procfs and sysfs under a root. A value that the board does not give is None, never a guess."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
_SANE_C = (-40.0, 150.0)  # disabled zones read empty, 0 K in milli-degrees, or a dummy
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    total_bytes: int
    available_bytes: int


def temperature_c(root: Path = _ROOT) -> float | None:
    """The hottest thermal zone."""
    readings = [_zone_c(zone) for zone in sorted(root.glob("sys/class/thermal/thermal_zone*"))]
    return max((reading for reading in readings if reading is not None), default=None)


def throttled(root: Path = _ROOT) -> bool | None:
    """Is a cooling device at work? None on a board without any."""
    states = [_integer(device / "cur_state") for device in root.glob("sys/class/thermal/cooling_device*")]
    known = [state for state in states if state is not None]
    return any(state > 0 for state in known) if known else None


def memory(root: Path = _ROOT) -> Memory | None:
    values = {}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        values[name] = value.split()[0] if value.split() else "0"
    if "MemTotal" not in values:
        return None
    return Memory(int(values["MemTotal"]) * 1024, int(values.get("MemAvailable", "0")) * 1024)


def rss_bytes(pid: int, root: Path = _ROOT) -> int | None:
    """Resident set of a process; None when it is gone."""
    fields = _text(root / f"proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE_BYTES if len(fields) > 1 else None


def cpu_us(pid: int, root: Path = _ROOT) -> int | None:
    """CPU time of a process since its start, user and system; None when it is gone. Resolution: one tick (10 ms)."""
    _, _, after_name = _text(root / f"proc/{pid}/stat").rpartition(")")  # the name may hold spaces and brackets
    fields = after_name.split()
    return (int(fields[11]) + int(fields[12])) * _TICK_US if len(fields) > 12 else None


def _zone_c(zone: Path) -> float | None:
    milli = _integer(zone / "temp")
    if milli is None or not _SANE_C[0] <= milli / 1000 <= _SANE_C[1]:
        return None
    return milli / 1000


def _integer(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # also EAGAIN and EINVAL of a zone that is switched off
        return ""
