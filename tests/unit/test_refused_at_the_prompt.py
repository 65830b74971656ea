"""What a person at a prompt may get wrong: one form from every program, on stderr, as text or as one JSON object; never a traceback."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.errors import CODES
from tests.architecture.source import REPO

TOKEN = f"skt1.{'s' * 24}.{'0' * 64}"
ENROL = ("edge_agent", "enrol", "--state-dir", "{folder}", "--config", "{folder}/agent.toml")
MISTAKES = {
    "agent that does not run": (
        ("edge_agent", "status", "--run-dir", "{folder}"),
        "SETUP_NOT_RUNNING",
        "skerry-agent: {folder}/agent.sock",
    ),
    "ledger of nobody": (
        ("edge_agent", "ledger", "--state-dir", "{folder}", "--run-dir", "{folder}"),
        "ENROL_MISSING",
        "no agent ever ran",
    ),
    "no token": ((*ENROL, "--token", "secret", "--server", "localhost:1"), "ENROL_TOKEN_UNKNOWN", "it is not of the form skt1."),
    "no port": ((*ENROL, "--token", TOKEN, "--server", "localhost"), "CONFIG_INVALID", "is not HOST:PORT"),
    "a port too high": ((*ENROL, "--token", TOKEN, "--server", "localhost:70000"), "CONFIG_INVALID", "is not HOST:PORT"),
    "nobody there": ((*ENROL, "--token", TOKEN, "--server", "127.0.0.1:1"), "ENROL_UNREACHABLE", "127.0.0.1:1"),
    "no configuration": (("sync.ingest", "status", "--config", "{folder}/x.toml"), "CONFIG_MISSING", "x.toml: No such file or directory"),
    "no lake": (("sync.ingest", "audit", "--lake", "{folder}/lake"), "CONFIG_MISSING", "no folder of tables is there"),
    "no site": (("control_plane.ceremony", "status", "{folder}/site"), "SETUP_SITE_UNREADABLE", "no site lies there"),
    "no token file": (("control_plane.cli", "status", "--token-file", "{folder}/t"), "CONFIG_MISSING", "--token-file, SKERRY_TOKEN_FILE"),
}
WITH_JSON = ("agent that does not run", "no lake", "no token file")


def said(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [word.format(folder=folder) for word in words]
    return subprocess.run([sys.executable, "-m", *line], cwd=REPO, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_a_mistake_is_said_in_three_lines(tmp_path: Path, mistake: str) -> None:
    words, code, what = MISTAKES[mistake]
    done = said(tmp_path, *words)
    first, remedy, see = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert f": {code}: " in first
    assert what.format(folder=tmp_path) in first
    assert "secret" not in first.replace("<secret>", ""), "a token is not repeated"
    assert (remedy, see) == (f"  remedy: {CODES[code].remedy}", f"  see: docs/reference/errors.md#{code.lower()}")
    assert not (tmp_path / "agent.toml").exists(), "nothing is left of an enrolment that failed"


@pytest.mark.parametrize("mistake", WITH_JSON)
def test_a_mistake_is_one_object_for_scripts(tmp_path: Path, mistake: str) -> None:
    words, code, _ = MISTAKES[mistake]
    done = said(tmp_path, *words, "--json")
    told = json.loads(done.stderr)
    assert (done.returncode, done.stdout, told["code"], told["remedy"]) == (1, "", code, CODES[code].remedy)


def test_ports_that_cannot_be_are_a_wrong_usage() -> None:
    for base in ("0", "65532"):
        done = said(Path("/nonexistent"), "deploy.local", "demo", "--port-base", base)
        assert (done.returncode, "five ports in a row" in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_the_demo_names_who_has_its_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = said(tmp_path, "deploy.local", "demo", "--port-base", str(min(port, 65_532)), "--work-dir", str(tmp_path / "work"))
    lines = done.stdout.splitlines()
    what = next(line for line in lines if line.startswith("SETUP_PORT_BUSY: "))
    assert done.returncode == 1
    assert re.fullmatch(rf"SETUP_PORT_BUSY: port {port} \(\w+\): held by .* \(pid {os.getpid()}\)", what)
    assert lines[lines.index(what) + 1].startswith("  remedy: stop the program named, or choose another port")
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").glob("opt")), "nothing was installed"
