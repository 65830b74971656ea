"""Each program at its start on a folder that is mounted read-only: its code, the folder's name, the remedy; nothing is begun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.source import REPO
from tests.integration.small_disk import read_only_view

FOLDERS = ("state_dir", "run_dir")
NOWHERE = "/nonexistent"  # never looked at: the folders come first
CERTIFICATE = {"certificate": NOWHERE, "key": NOWHERE, "control_url": "https://localhost:1"}
REQUIRED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "skerry-control": (["control_plane"], {}),
    "skerry-signer": (
        ["control_plane.signer"],
        {"keys_dir": NOWHERE, "image_dir": NOWHERE, "blobs_dir": NOWHERE, "public_dir": NOWHERE, "allowed_uids": [0]},
    ),
    "skerry-build": (["control_plane.build"], {**CERTIFICATE, "server_ca": NOWHERE, "builder_key": NOWHERE, "public_dir": NOWHERE}),
    "skerry-ingest": (
        ["sync.ingest", "run"],
        {**CERTIFICATE, "ca": NOWHERE, "lake_dir": NOWHERE, "ack_key": NOWHERE, "broker_host": "localhost"},
    ),
    "skerry-agent": (["edge_agent", "run"], {}),
}


@pytest.mark.parametrize(("program", "which"), [*((program, "state_dir") for program in sorted(REQUIRED)), ("skerry-ingest", "run_dir")])
def test_a_program_names_the_folder_that_it_cannot_write(tmp_path: Path, program: str, which: str) -> None:
    module, values = REQUIRED[program]
    folders = {name: tmp_path / name for name in FOLDERS}
    for folder in folders.values():
        folder.mkdir()
    config = tmp_path / "program.toml"
    values = {**{name: str(path) for name, path in folders.items()}, **values}
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    with read_only_view(folders[which]):
        line = [sys.executable, "-m", *module, "--config", str(config)]
        done = subprocess.run(line, cwd=REPO, check=False, capture_output=True, text=True, timeout=60)
    what, remedy, see = done.stderr.splitlines()[-3:]
    assert done.returncode == 1
    assert what == f"{program}: SETUP_STATE_DISK: {folders[which]}: trying to write: Read-only file system"
    assert remedy == "  remedy: free space there, mount it writable or give it to the program's user"
    assert see == "  see: docs/reference/errors.md#setup_state_disk"
    assert all(not list(folder.iterdir()) for folder in folders.values())
