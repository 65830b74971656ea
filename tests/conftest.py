"""What holds for every test: the order, the hypothesis profile, and that nothing is skipped without a reason from a list.

Runs under 3.8 too: the worker's tests do.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).resolve().parent

# Cheap and telling first; the demo, which needs minutes, last.
ORDER = ("unit", "property", "contract", "architecture", "integration")
LAST = "test_demo.py"

# A skip is honest when the machine lacks something that the project does not set up by itself.
ALLOWED_SKIPS = (
    r"no Python 3\.(8|10) on this machine",
    r"needs root: .+",
    r"no (mount|mkfs\.ext4) on this machine",
    r"this machine does not let strace trace a process",
)

# The same examples on every machine and every day: a red CI run can be repeated. Look for new ones with SKERRY_EXPLORE=1.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("explore" if os.environ.get("SKERRY_EXPLORE") else "fixed")

_not_run: dict[str, list[str]] = {}  # reason -> node ids
_counted: Counter[str] = Counter()  # what the tests told by `record_property(name, count)`, and hypothesis's examples


def _stage(path: Path) -> tuple[int, int]:
    folder = path.relative_to(HERE).parts[0] if HERE in path.parents else ""
    return int(path.name == LAST), ORDER.index(folder) if folder in ORDER else len(ORDER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _stage(Path(str(item.fspath))))


def _reason(longrepr: object) -> str:
    reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return re.sub(r"^Skipped: ", "", reason)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        _not_run.setdefault(_reason(report.longrepr), []).append(report.nodeid)
    if report.when == "call":
        _counted.update({name: count for name, count in report.user_properties if isinstance(count, int)})
    statistics = str(report.__dict__.get("_hypothesis_stats", ""))  # one line a phase: "60 passing, 0 failing, ..."
    if examples := sum(int(passing) for passing in re.findall(r"(\d+) passing", statistics)):
        _counted["hypothesis examples"] += examples


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _not_run.setdefault(_reason(report.longrepr), []).append(report.nodeid)


def _unlisted() -> list[str]:
    return [reason for reason in _not_run if not any(re.fullmatch(allowed, reason) for allowed in ALLOWED_SKIPS)]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _unlisted() and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    _tell_the_summary()


def _tell_the_summary() -> None:
    """tests/run.sh prints these lines again at its end."""
    path = os.environ.get("SKERRY_NOT_RUN")
    if path:
        with open(path, "a") as lines:
            lines.writelines(f"not run: {reason} ({len(nodes)} tests)\n" for reason, nodes in sorted(_not_run.items()))
            lines.writelines(f"{line}\n" for line in _counts())


def _counts() -> list[str]:
    python = ".".join(map(str, sys.version_info[:2]))
    return [f"counted under Python {python}: {name} {count}" for name, count in sorted(_counted.items())]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, nodes in sorted(_not_run.items()):
        terminalreporter.write_line(f"not run: {reason} ({len(nodes)} tests, first: {nodes[0]})")
    for line in _counts():
        terminalreporter.write_line(line)
    for reason in _unlisted():
        terminalreporter.write_line(f"FAILED: skipped for a reason that is not in ALLOWED_SKIPS of tests/conftest.py: {reason}")
