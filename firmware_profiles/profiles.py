"""The profiles we know, from profiles/*.toml."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class Match:
    """All that is given must hold. `cpu_flags` are of /proc/cpuinfo, `compatible` is one entry of the device tree's."""

    machine: str = ""  # x86_64 or aarch64
    cpu_flags_any: tuple[str, ...] = ()
    compatible_any: tuple[str, ...] = ()
    l4t_major: tuple[int, ...] = ()


@dataclass(frozen=True)
class Profile:
    name: str
    rank: int  # the highest one that matches is the machine's profile
    description: str
    isa: str
    backends: tuple[str, ...]  # in order of preference
    precision: str  # the member variant that is built for it
    evidence: str  # what has been run on this hardware, in words
    match: Match
    spin_us: int = 0  # how long a wait of worker or client spins before it blocks, at most 50; 0 on boards without a fan


@cache
def profiles() -> dict[str, Profile]:
    """Name -> profile."""
    found = [_read(path) for path in sorted(_FOLDER.glob("*.toml"))]
    return {profile.name: profile for profile in found}


def _read(path: Path) -> Profile:
    values = tomllib.loads(path.read_text())
    match = Match(**_frozen(values.pop("match")))
    return Profile(name=path.stem, match=match, **_frozen(values))


def _frozen(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
