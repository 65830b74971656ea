"""PURE: what a unit file says, as a value. The supervisor starts exactly what `ExecStart` says; only folders are mapped.

Read is what the supervisor honours: ExecStart, User, Group, SupplementaryGroups, UMask, Type, WatchdogSec, Restart, RestartSec,
TimeoutStartSec, TimeoutStopSec, After, Environment. Hardening is systemd's own work and is checked by systemd-analyze.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "": 1.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


@dataclass(frozen=True)
class Unit:
    """One service. Times in seconds; `watchdog_s` is None when no watchdog is asked for."""

    name: str
    argv: tuple[str, ...]
    notify: bool
    user: str
    groups: tuple[str, ...]  # the first is the primary one
    umask: int
    restart: str  # always, on-failure, no
    restart_s: float
    start_timeout_s: float
    stop_timeout_s: float
    watchdog_s: float | None
    after: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def parse(name: str, text: str) -> Unit:
    """The unit `name` from its file's text; ValueError when there is no single ExecStart."""
    entries = _entries(text)
    commands = entries.get("ExecStart", [])
    if len(commands) != 1:
        raise ValueError(f"{name}: one ExecStart is needed, found {len(commands)}")

    def last(key: str, default: str) -> str:
        return entries.get(key, [default])[-1]

    watchdog = entries.get("WatchdogSec")
    return Unit(
        name=name,
        argv=tuple(shlex.split(commands[0])),
        notify=last("Type", "simple") == "notify",
        user=last("User", "root"),
        groups=(last("Group", last("User", "root")), *last("SupplementaryGroups", "").split()),
        umask=int(last("UMask", "0022"), 8),
        restart=last("Restart", "no"),
        restart_s=span_s(last("RestartSec", "100ms")),
        start_timeout_s=span_s(last("TimeoutStartSec", "90")),
        stop_timeout_s=span_s(last("TimeoutStopSec", "90")),
        watchdog_s=span_s(watchdog[-1]) if watchdog else None,
        after=tuple(last("After", "").split()),
        environment=tuple(_assignment(part) for line in entries.get("Environment", []) for part in shlex.split(line)),
    )


def _assignment(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def span_s(text: str) -> float:
    """systemd.time(7) spans: `500ms`, `1min 30s`, `20`."""
    parts = _SPAN.findall(text)
    if not parts or _SPAN.sub("", text).strip():
        raise ValueError(f"not a time span: {text!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def mapped(argv: tuple[str, ...], folders: Mapping[str, str]) -> tuple[str, ...]:
    """`argv` with leading folders replaced: {"/opt/skerry": "/tmp/x/opt"}; what matches none stays as it is."""
    return tuple(_mapped(argument, folders) for argument in argv)


def _mapped(argument: str, folders: Mapping[str, str]) -> str:
    for production, here in folders.items():
        if argument == production or argument.startswith(production + "/"):
            return here + argument[len(production) :]
    return argument


def _entries(text: str) -> dict[str, list[str]]:
    entries: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";", "[")):
            entries.setdefault(key.strip(), []).append(value.strip())
    return entries
