"""The client as one file, used as its page shows: alone, beside an agent's worker, by a program that has nothing of ours."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from edge_agent.inference import client_file
from edge_agent.inference.child import CODE_ROOT
from tests.integration.test_arena_clients import site
from tests.integration.test_worker_host import run

PAGE = CODE_ROOT / "docs" / "how-to" / "use-a-model-from-python.md"
BARRED = "import sys\nfor name in ('contracts', 'edge_agent', 'processing', 'pydantic'):\n    sys.modules[name] = None\n"


def write(folder: Path) -> Path:
    path = folder / "skerry_client.py"
    path.write_text(client_file.text())
    return path


def test_it_needs_the_standard_library_and_numpy() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(client_file.text()))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""])
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy"}


def test_it_is_clean_for_python_3_8_and_every_name_in_it_is_known(tmp_path: Path) -> None:
    path, programs = write(tmp_path), Path(sys.executable).parent
    vermin = [str(programs / "vermin"), "-q", "-t=3.8-", "--no-tips", "--violations", str(path)]
    checked = subprocess.run(vermin, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    ruff = [str(programs / "ruff"), "check", "--isolated", "--select", "F821,F823,F811", str(path)]
    checked = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_program_on_the_page_runs(tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path)
        example = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
        (tmp_path / "example.py").write_text(BARRED + example)
        async with site(tmp_path) as here:
            program = await asyncio.create_subprocess_exec(
                *(sys.executable, str(tmp_path / "example.py"), here.path),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": ""},
            )
            said = (await program.communicate())[0].decode()
            assert program.returncode == 0, said
            assert "tiny 1 ready live" in said
            assert "sum 64.0" in said

    run(scenario())
