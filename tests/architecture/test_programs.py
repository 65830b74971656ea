"""The programs, as they are declared: entry points, unit files, and `python -m`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import REPO, tree

if sys.version_info >= (3, 11):
    import tomllib

SCRIPTS: dict[str, str] = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
DAEMONS = ("skerry-control", "skerry-build", "skerry-signer", "skerry-ingest", "skerry-agent")
UNITS = sorted((REPO / "deploy" / "systemd").glob("*.service"))


def module_file(target: str) -> Path:
    return Path(*target.partition(":")[0].split(".")).with_suffix(".py")


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_an_entry_point_names_a_function_that_exists(script: str) -> None:
    path, name = module_file(SCRIPTS[script]), SCRIPTS[script].partition(":")[2]
    defined = {node.name for node in tree(path).body if isinstance(node, ast.FunctionDef)}
    assert name in defined


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_every_program_explains_itself(script: str) -> None:
    module, _, name = SCRIPTS[script].partition(":")
    start = f"import sys; sys.argv = [{script!r}, '--help']; from {module} import {name}; raise SystemExit({name}())"
    done = subprocess.run([sys.executable, "-c", start], cwd=REPO, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert script in done.stdout


@pytest.mark.parametrize("script", DAEMONS)
def test_every_daemon_has_a_unit_file(script: str) -> None:
    assert any(f"ExecStart={path}" in unit.read_text() for unit in UNITS for path in _paths(script)), f"no unit starts {script}"


def _paths(script: str) -> list[str]:
    return [f"{folder}/{script}" for folder in ("/opt/skerry/bin", "/usr/bin", "/usr/lib/skerry/bin")]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_notifies_restarts_and_is_hemmed_in(unit: Path) -> None:
    text = unit.read_text()
    started = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)
    assert started
    if Path(started[1]).name in SCRIPTS:
        for line in ("Type=notify", "Restart=", "WatchdogSec=", "NoNewPrivileges=", "ProtectSystem="):
            assert line in text, line
