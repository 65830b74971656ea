"""docs/reference/attacks.md is held to the code: each code is registered, each test exists, nothing is left out in silence."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from contracts.errors import CODES
from tests.architecture.source import REPO, tree

PAGE = REPO / "docs" / "reference" / "attacks.md"
NOT_BUILT = {18: "attestation", 19: "encrypted"}  # number -> a word of the reason
LIES = 11


def rows(heading: str) -> list[list[str]]:
    """Cells of the table below a heading, without its head."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


ATTACKS, DEMO = rows("Twenty attacks"), rows("The lies of the demo")
BUILT = [row for row in ATTACKS if int(row[0]) not in NOT_BUILT] + DEMO


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_there_are_twenty_and_each_lie_of_the_demo() -> None:
    assert [int(row[0]) for row in ATTACKS] == list(range(1, 21))
    assert len(DEMO) == LIES
    assert {len(row) for row in ATTACKS + DEMO} == {4}


@pytest.mark.parametrize("row", BUILT, ids=lambda row: row[0][:40])
def test_its_codes_are_registered_and_its_tests_exist(row: list[str]) -> None:
    codes, tests = names(row[2]), names(row[3])
    assert codes
    assert tests
    assert set(codes) <= set(CODES)
    for test in tests:
        path, _, name = test.partition("::")
        defined = {node.name for node in ast.walk(tree(Path(path))) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in defined, test


@pytest.mark.parametrize("number", NOT_BUILT)
def test_what_is_not_built_says_so(number: int) -> None:
    row = ATTACKS[number - 1]
    assert (row[2], NOT_BUILT[number] in row[3]) == ("not built", True)


def test_the_demo_proves_the_lies_of_the_page() -> None:
    demo = tree(Path("tests/integration/test_demo.py"))
    (proved,) = [
        ast.literal_eval(node.value)
        for node in demo.body
        if isinstance(node, ast.Assign) and [target.id for target in node.targets if isinstance(target, ast.Name)] == ["LIES"]
    ]
    assert sorted(sorted(codes) for codes in proved.values()) == sorted(sorted(names(row[2])) for row in DEMO)
