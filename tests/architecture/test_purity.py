"""Decisions are pure: values in, values out. No file, clock, randomness, log or task inside; time and bytes come in as arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import functions, imported, python_files, tree

_VALUES = {
    "__future__", "abc", "array", "base64", "binascii", "bisect", "collections", "copy", "dataclasses", "datetime", "enum", "fractions",
    "functools", "hashlib", "heapq", "itertools", "json", "math", "numbers", "operator", "re", "statistics", "string", "struct",
    "io",  # BytesIO; io.open is barred below
    "types", "typing", "zlib",
}  # fmt: skip
_CONTRACTS = {"contracts", "pydantic"}
# place -> what it may import besides itself
PURE = {
    "contracts": _VALUES | {"pydantic"},
    "processing": _VALUES | {"numpy"},
    "edge_agent/core": _VALUES | _CONTRACTS | {"processing"},
    "control_plane/domain": _VALUES | _CONTRACTS | {"processing"},
    "sync/codec.py": _VALUES | _CONTRACTS | {"sync", "zstandard", "msgpack", "signatures"},
    "sync/record_batch.py": _VALUES,
    "sync/watermark.py": _VALUES | _CONTRACTS,
    "signatures": _VALUES | _CONTRACTS | {"cryptography", "securesystemslib"},
}
BARRED_NAMES = {"open", "print", "input", "exec", "eval", "__import__"}
BARRED_ATTRIBUTES = {
    ".now", ".utcnow", ".today", ".time", ".monotonic", ".perf_counter", ".random", ".urandom", ".default_rng", ".open", ".read_text",
    ".write_text", ".read_bytes", ".write_bytes", ".fromfile", ".tofile", ".memmap",
}  # fmt: skip


def files(place: str) -> list[Path]:
    found = python_files(place)
    assert found, f"{place} is gone: the check would hold for nothing"
    return found


@pytest.mark.parametrize("place", sorted(PURE))
def test_pure_code_imports_only_what_makes_values(place: str) -> None:
    own = place.partition("/")[0]
    allowed = PURE[place] | ({own} if own in ("contracts", "processing", "signatures") else set())
    prefix = place.removesuffix(".py").replace("/", ".")
    wrong = [
        f"{path}:{line} imports {name}"
        for path in files(place)
        for name, line in imported(path)
        if name.split(".")[0] not in allowed and not (name == prefix or name.startswith(prefix + "."))
    ]
    assert wrong == []


@pytest.mark.parametrize("place", sorted(PURE))
def test_pure_code_neither_opens_nor_asks_the_time(place: str) -> None:
    wrong = [
        f"{path}:{call.lineno} uses {name}"
        for path in files(place)
        for call in _calls_but_for_main(path)
        if (name := _called(call)) in BARRED_NAMES | BARRED_ATTRIBUTES
    ]
    assert wrong == []


def _calls_but_for_main(path: Path) -> Iterator[ast.Call]:
    """A table that prints itself when it is started as a program does so in its last line, outside the table."""
    for statement in tree(path).body:
        if not (isinstance(statement, ast.If) and "__main__" in ast.dump(statement.test)):
            yield from (node for node in ast.walk(statement) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    """`open` of open(...), `.now` of datetime.now(...)."""
    if isinstance(call.func, ast.Attribute):
        return "." + call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


@pytest.mark.parametrize("place", sorted(PURE))
def test_pure_code_does_not_wait(place: str) -> None:
    wrong = [
        f"{path}:{node.lineno} {node.name}" for path in files(place) for node in functions(path) if isinstance(node, ast.AsyncFunctionDef)
    ]
    assert wrong == []
