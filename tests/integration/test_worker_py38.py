"""The worker under a board's own Python: statically always, for real where a 3.8 with numpy exists."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contracts.manifest import Manifest
from edge_agent.inference.child import CODE_ROOT
from edge_agent.inference.client import Client
from edge_agent.inference.host import WorkerHost
from tests.simulators.bundles import fake_slot, golden_inputs
from tests.simulators.onnx_bundles import onnx_slot

CLEAN = [
    "processing",
    "edge_agent/inference/worker",
    "edge_agent/inference/wire.py",
    "edge_agent/inference/client.py",
    "edge_agent/inference/tether.py",
    "edge_agent/inference/exits.py",
    "contracts/errors.py",
    "contracts/pipeline.py",
]
PYTHON38 = os.environ.get("SKERRY_PYTHON38", "")
MODULES = ("edge_agent.inference.worker.__main__", "edge_agent.inference.client", "processing.pipeline", "processing.rows")


def test_no_newer_syntax_or_library_call() -> None:
    command = [str(Path(sys.executable).parent / "vermin"), "-q", "-t=3.8-", "--no-tips", "--violations", *CLEAN]
    checked = subprocess.run(command, cwd=CODE_ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.skipif(not PYTHON38, reason="no Python 3.8 on this machine")
def test_every_module_of_the_worker_and_client_imports() -> None:
    for module in MODULES:
        imported = subprocess.run([PYTHON38, "-c", f"import {module}"], cwd=CODE_ROOT, capture_output=True, text=True, check=False)
        assert imported.returncode == 0, imported.stderr


@pytest.mark.skipif(not PYTHON38, reason="no Python 3.8 on this machine")
@pytest.mark.parametrize("make", [onnx_slot, fake_slot])
def test_a_worker_on_the_boards_python_serves_an_agent_of_today(tmp_path: Path, make: Callable[[Path], tuple[str, Path, Manifest]]) -> None:
    async def scenario() -> None:
        digest, slot, manifest = make(tmp_path / "slots")
        host = WorkerHost(PYTHON38, tmp_path / "run")
        try:
            await host.load(digest, slot, manifest)
            assert host.figures()[digest]["self_test"]["python"].startswith("3.8.")
            route, descriptors = host.route(digest)
            memfd, request_fd, response_fd = (os.dup(number) for number in descriptors)
            client = Client(route["arena"], route["input"], route["output"], (memfd, request_fd, response_fd))
            wanted = np.load(slot / "golden_output.npy")
            for values, expected in zip(golden_inputs(), wanted, strict=True):
                assert np.allclose(client.infer(values[None], 5.0).output, expected, atol=1e-4)
            client.close()
        finally:
            await host.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_foreign_interpreter_sees_only_the_workers_packages(tmp_path: Path) -> None:
    """Links, not the folder that the agent came from: that one may be full of binaries of another Python."""
    from edge_agent.inference.worker_code import code_root_for

    assert code_root_for(sys.executable, tmp_path) == CODE_ROOT
    root = code_root_for("/usr/bin/python3", tmp_path)
    assert sorted(path.name for path in root.iterdir()) == ["edge_agent", "processing"]
    assert code_root_for("/usr/bin/python3", tmp_path) == root
    assert (root / "edge_agent" / "inference" / "worker" / "__main__.py").exists()
