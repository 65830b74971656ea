"""Tests about tests: each one can fail, each planted bug still fits the code, the older Pythons have something to run."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import suites
from tests.architecture.source import REPO, dotted, functions, python_files, tree
from tests.prove import PLANTED, Bug

CHECKS = re.compile(r"^_?(check|assert)_")
RAISES = {"pytest.raises", "pytest.warns", "raises", "warns", "pytest.fail"}


def asserts(node: ast.AST) -> bool:
    for part in ast.walk(node):
        if isinstance(part, ast.Assert):
            return True
        if isinstance(part, ast.Call):
            name = dotted(part.func) or (part.func.attr if isinstance(part.func, ast.Attribute) else "")
            if name in RAISES or CHECKS.match(name.rpartition(".")[2]):
                return True
    return False


def _test_functions() -> list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    return [
        (path, node)
        for path in python_files("tests")
        if path.name.startswith("test_")
        for node in functions(path)
        if node.name.startswith("test_")
    ]


def test_every_test_asserts_something() -> None:
    assert [f"{path}:{node.lineno} {node.name}" for path, node in _test_functions() if not asserts(node)] == []


def test_no_two_tests_of_a_file_share_a_name() -> None:
    """The second one would silently replace the first."""
    twins = []
    for path in python_files("tests"):
        bodies = [tree(path).body, *(node.body for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))]
        for body in bodies:
            names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            twins += [f"{path} {name}" for name in set(names) if names.count(name) > 1 and name.startswith("test_")]
    assert twins == []


@pytest.mark.parametrize("patch", sorted(PLANTED.glob("*.patch")), ids=lambda path: path.stem)
def test_a_planted_bug_still_fits_the_code(patch: Path, tmp_path: Path) -> None:
    bug = Bug.read(patch)
    for name in re.findall(r"^--- a/(\S+)$", patch.read_text(), re.MULTILINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, tmp_path / name)
    done = subprocess.run(["git", "apply", "--check", str(patch)], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for node in bug.must_fail:
        path, *names = node.partition("[")[0].split("::")
        assert (REPO / path).is_file(), node
        known = {
            found.name for found in ast.walk(tree(Path(path))) if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        # A state machine's test case is made by assignment: `TestX = XMachine.TestCase`.
        known |= {
            target.id
            for found in tree(Path(path)).body
            if isinstance(found, ast.Assign)
            for target in found.targets
            if isinstance(target, ast.Name)
        }
        assert names[:1] == [] or names[0] in known, node


def test_bugs_are_planted() -> None:
    assert len(list(PLANTED.glob("*.patch"))) >= 3


# suite -> tests that must be among those that run there; found by their imports
EXPECTED = {
    "device-py38": {"tests/property/test_latency.py"},
    "device-py310": {"tests/property/test_latency.py", "tests/unit/test_program.py", "tests/unit/test_contracts.py"},
}


@pytest.mark.parametrize("suite", sorted(suites.SUITES))
def test_the_older_pythons_have_their_tests(suite: str) -> None:
    found = {str(path.relative_to(REPO)) for path in suites.test_files(suite)}
    assert EXPECTED[suite] <= found, {path: suites.missing(suite, REPO / path) for path in EXPECTED[suite] - found}


def test_packages_above_carry_nothing() -> None:
    """tests/suites.py and the board's Python rely on it: importing `edge_agent.inference.worker` runs edge_agent/__init__.py too."""
    for path in ("edge_agent/__init__.py", "edge_agent/inference/__init__.py", "sync/__init__.py", "tests/__init__.py"):
        assert [node for node in tree(Path(path)).body if not _is_constant(node)] == [], path


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Constant)


def test_this_suite_runs_on_the_floor_of_the_control_plane_or_above() -> None:
    assert sys.version_info >= (3, 11)
