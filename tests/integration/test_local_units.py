"""The unit files: systemd takes them without a complaint, they are hardened, and the local supervisor starts what they say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import tomllib

from deploy.local.site import PROGRAMS, unit_of
from deploy.local.units import parse

REPO = Path(__file__).parents[2]
UNITS = sorted((REPO / "deploy" / "systemd").glob("*.service"))
EXPOSURE_LIMIT = 25  # tenths of systemd's own scale, 0 (closed) to 100
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")


def _with_programs(folder: Path, extra: str = "") -> list[str]:
    """Copies of the units whose /opt/skerry is below `folder`, where the programs exist."""
    (folder / "bin").mkdir()
    copies = []
    for unit in UNITS:
        for name in parse(unit.stem, unit.read_text()).argv[:1]:
            if name.startswith("/opt/skerry/"):
                stub = folder / "bin" / Path(name).name
                stub.write_text("#!/bin/sh\n")
                stub.chmod(0o755)
        copy = folder / unit.name
        copy.write_text(unit.read_text().replace("/opt/skerry/bin", str(folder / "bin")) + extra)
        copies.append(str(copy))
    return copies


def _verify(copies: list[str]) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *copies]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
def test_systemd_takes_every_unit_without_a_word(tmp_path: Path) -> None:
    done = _verify(_with_programs(tmp_path))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_the_check_sees_a_wrong_key(tmp_path: Path) -> None:
    done = _verify(_with_programs(tmp_path, extra="\n[Service]\nWatchdogSeconds=3\n"))
    assert "WatchdogSeconds" in done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_are_hardened(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-500:]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_unit_speaks_to_its_supervisor(unit: Path) -> None:
    read = parse(unit.stem, unit.read_text())
    assert read.notify
    assert read.restart == "always"
    assert read.user == unit.stem
    assert read.watchdog_s is not None or unit.stem == "skerry-broker"  # mosquitto feeds none


def test_every_unit_starts_a_program_that_the_project_installs() -> None:
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    started = {parse(unit.stem, unit.read_text()).argv[0] for unit in UNITS}
    assert started - {"/usr/sbin/mosquitto"} == {f"/opt/skerry/bin/{name}" for name in scripts if f"/opt/skerry/bin/{name}" in started}
    assert len(started) == len(UNITS)


def test_the_local_site_starts_what_exec_start_says() -> None:
    """Every program of a local site is one of the units, and its command is ExecStart with two folders mapped."""
    for name, unit_name in PROGRAMS.items():
        said = next(
            line for line in (REPO / "deploy/systemd" / f"{unit_name}.service").read_text().splitlines() if line.startswith("ExecStart=")
        )
        unit = unit_of(name)
        assert " ".join(unit.argv) == said.removeprefix("ExecStart=")
