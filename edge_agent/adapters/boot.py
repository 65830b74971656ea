"""The kernel's boot id: tells a reader of reports and batches where monotonic time began anew."""

from __future__ import annotations

from pathlib import Path


def boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    return path.read_text().strip()
