"""A function fits a screen and a file holds one noun. What must be longer stands here with its reason."""

from __future__ import annotations

import ast

from tests.architecture.source import PACKAGES, REPO, functions, python_files

FUNCTION_LINES = 40  # without the docstring
FILE_LINES = 400

# "path" or "path::function" -> why it is longer
ALLOWED: dict[str, str] = {
    "control_plane/store/migrations/versions/0001_first.py::upgrade": "one statement for each table, as Alembic wrote it",
}


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def too_long() -> set[str]:
    found = set()
    for path in python_files(*PACKAGES, "tests", "docs"):
        if len((REPO / path).read_text().splitlines()) > FILE_LINES:
            found.add(str(path))
        found |= {f"{path}::{node.name}" for node in functions(path) if length(node) > FUNCTION_LINES}
    return found


def test_no_file_and_no_function_outgrows_its_reader() -> None:
    assert sorted(too_long() - set(ALLOWED)) == []


def test_an_exception_that_is_no_longer_needed_is_taken_out() -> None:
    assert sorted(set(ALLOWED) - too_long()) == []
