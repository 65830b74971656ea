"""PURE: what to do when a program ends, stays silent or is late. The rules, in one place:

- `Restart=always` starts it again, `on-failure` only after an unclean end, `no` never; an asked-for stop is never undone.
- The first restart waits `RestartSec`. Each further end within QUICK_S of a start doubles the wait, up to CAP_S;
  a run that lasted longer starts the count anew. It never gives up.
- A notify program that is not READY within `TimeoutStartSec`, or feeds no WATCHDOG within `WatchdogSec`, is killed:
  an unclean end.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.local.units import Unit

QUICK_S = 10.0
CAP_S = 30.0
WATCHDOG_REASON, START_REASON = "watchdog", "start timeout"


@dataclass(frozen=True)
class Run:
    """One life of a program, in seconds of the monotonic clock."""

    started_s: float
    ready_s: float | None = None
    fed_s: float | None = None  # last WATCHDOG=1, or READY=1
    quick_ends: int = 0  # ends within QUICK_S of a start, without a longer run between


@dataclass(frozen=True)
class Again:
    """Start it again `delay_s` from now, as a run with `quick_ends` behind it; None for `delay_s`: leave it."""

    delay_s: float | None
    quick_ends: int


def after_end(unit: Unit, run: Run, now_s: float, returncode: int, asked: bool) -> Again:
    """What follows the end of `run` at `now_s`; `asked` when it was told to stop."""
    if asked or unit.restart == "no" or (unit.restart == "on-failure" and returncode == 0):
        return Again(None, 0)
    quick_ends = run.quick_ends + 1 if now_s - run.started_s < QUICK_S else 0
    return Again(min(unit.restart_s * 2 ** max(0, quick_ends - 1), CAP_S), quick_ends)


def deadline_s(unit: Unit, run: Run) -> float | None:
    """When this run must have spoken next, on the monotonic clock; None when nothing is awaited."""
    if unit.notify and run.ready_s is None:
        return run.started_s + unit.start_timeout_s
    if unit.watchdog_s is not None and run.fed_s is not None:
        return run.fed_s + unit.watchdog_s
    return None


def overdue(unit: Unit, run: Run, now_s: float) -> str:
    """Why the run has to be killed now, or ""."""
    due_s = deadline_s(unit, run)
    if due_s is None or now_s < due_s:
        return ""
    return START_REASON if run.ready_s is None else WATCHDOG_REASON


def stop_order(units: dict[str, Unit]) -> list[str]:
    """Names in the order to stop: a program before those that its unit is `After=`; else the reverse of `units`."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for other, unit in units.items():
            if f"{units[name].name}.service" in unit.after:
                visit(other)
        order.append(name)

    for name in reversed(units):
        visit(name)
    return order
