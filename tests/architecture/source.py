"""The repository as data: its files, their syntax trees. Needs no git, so that the checks run in a copy too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PACKAGES = (
    "contracts", "program", "signatures", "processing", "firmware_profiles", "edge_agent", "sync", "control_plane", "examples", "deploy",
)  # fmt: skip
NOT_OURS = {".git", ".venv", ".cache", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
TEXT = {".py", ".md", ".toml", ".sh", ".txt", ".conf", ".service", ".ini", ".yml", ".yaml", ".json", ".patch", ".mako", ".svg", ""}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _ours(inside: Path) -> bool:
    made = inside.parts[0] in ("build", "dist") or any(part.endswith(".egg-info") for part in inside.parts)
    return not made and not NOT_OURS & set(inside.parts)


def python_files(*roots: str) -> list[Path]:
    """Python files below the given folders, or the files themselves; relative to the repository."""
    found: set[Path] = set()
    for root in roots:
        path = REPO / root
        found.update([path] if path.is_file() else path.rglob("*.py"))
    return sorted(path.relative_to(REPO) for path in found if _ours(path.relative_to(REPO)))


def text_files() -> Iterator[Path]:
    """Every text of the repository, relative to it."""
    for path in sorted(REPO.rglob("*")):
        inside = path.relative_to(REPO)
        if _ours(inside) and path.is_file() and not path.is_symlink() and path.suffix in TEXT:
            yield inside


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((REPO / path).read_text(), filename=str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, FUNCTIONS))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """(dotted module, line) of each import, those inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute chain, else ''."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node
