"""Which profile is this machine? Reads a file tree only; the control plane decides from its registry, the device checks again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import error
from firmware_profiles.profiles import Match, Profile, profiles

_L4T = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")


@dataclass(frozen=True)
class Machine:
    """What the file tree says. Empty where it says nothing."""

    machine: str
    model: str
    cpu_flags: frozenset[str]
    compatible: tuple[str, ...]
    l4t: str  # "36.4.0" on a Jetson


def detect(root: Path = Path("/")) -> Profile:
    """The profile of the highest rank that matches. Raises LocalFaultError SETUP_PROFILE_UNKNOWN."""
    machine = read_machine(root)
    fitting = [profile for profile in profiles().values() if _matches(profile.match, machine)]
    if not fitting:
        raise error("SETUP_PROFILE_UNKNOWN", machine.model or machine.machine or str(root))
    return max(fitting, key=lambda profile: profile.rank)


def read_machine(root: Path) -> Machine:
    cpuinfo = _text(root / "proc/cpuinfo")
    compatible = tuple(part for part in _text(root / "proc/device-tree/compatible").split("\0") if part)
    release = _L4T.search(_text(root / "etc/nv_tegra_release"))
    return Machine(
        machine=_machine(cpuinfo, compatible),
        model=_model(root, cpuinfo),
        cpu_flags=frozenset(_field(cpuinfo, "flags", "Features").split()),
        compatible=compatible,
        l4t=".".join(release.groups()) if release else "",
    )


def _matches(match: Match, machine: Machine) -> bool:
    return (
        match.machine in ("", machine.machine)
        and (not match.cpu_flags_any or not machine.cpu_flags.isdisjoint(match.cpu_flags_any))
        and (not match.compatible_any or not set(machine.compatible).isdisjoint(match.compatible_any))
        and (not match.l4t_major or machine.l4t.split(".")[0] in map(str, match.l4t_major))
    )


def _machine(cpuinfo: str, compatible: tuple[str, ...]) -> str:
    """From the form of cpuinfo, which the file tree holds; `uname` would speak of the machine that reads a recorded tree."""
    if "vendor_id" in cpuinfo:
        return "x86_64"
    return "aarch64" if "CPU implementer" in cpuinfo or compatible else ""


def _model(root: Path, cpuinfo: str) -> str:
    tree = _text(root / "proc/device-tree/model").strip("\0\n")
    return tree or _text(root / "sys/class/dmi/id/product_name").strip() or _field(cpuinfo, "model name")


def _field(cpuinfo: str, *names: str) -> str:
    """The first processor's value."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
