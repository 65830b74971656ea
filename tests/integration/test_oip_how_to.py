"""The commands and programs of the how-to run as they are shown, but for the addresses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import REPO
from tests.integration.oip_process import Site, site
from tests.simulators.bundles import fake_slot

PAGE = (REPO / "docs" / "how-to" / "serve-other-programs.md").read_text()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("how-to")
    with site(folder, fake_slot(folder / "slots", name="digits"), {"shared_memory_uids": [os.getuid()]}) as started:
        yield started


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return found


def placed(here: Site, text: str) -> str:
    text = text.replace("/run/skerry/agent", str(here.run_dir)).replace("/frames-of-my-program", f"/skerry-how-to-{os.getpid()}")
    return text.replace("127.0.0.1:8000", here.rest).replace("127.0.0.1:8001", here.grpc)


def ran(*command: str) -> str:
    done = subprocess.run(command, cwd=REPO, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_programs_that_are_shown_run(here: Site) -> None:
    parts = [f"def part_{number}():\n" + re.sub("^", "    ", block, flags=re.MULTILINE) for number, block in enumerate(blocks("python"))]
    calls = "\n".join(f"part_{number}()" for number in range(len(parts)))
    out = ran(sys.executable, "-c", placed(here, "\n".join((*parts, calls))))
    assert "version 1" in out
    assert out.count("8.") >= 3
    assert "us in the worker" in out


def test_the_commands_that_are_shown_run(here: Site) -> None:
    (commands,) = blocks("sh")
    assert '"name":"digits"' in ran("sh", "-ec", placed(here, commands))


def test_the_settings_that_are_shown_are_the_agents(tmp_path: Path) -> None:
    from edge_agent.config import AgentConfig
    from program.config import load

    (tmp_path / "agent.toml").write_text(blocks("toml")[0])
    settings = load(AgentConfig, tmp_path / "agent.toml").oip
    assert settings is not None
    assert (settings.rest_port, settings.grpc_port) == (8000, 8001)
