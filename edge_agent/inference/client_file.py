"""The client library as one file, which needs the standard library and numpy only: `skerry-agent client-library > skerry_client.py`.

Made from the very modules that the pipeline uses, so that there is one protocol and one client. Clean for Python 3.8.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("contracts/errors.py", "edge_agent/inference/wire.py", "edge_agent/inference/spin.py", "edge_agent/inference/client.py")
OURS = ("contracts", "edge_agent")


def text() -> str:
    """Docstring of the client, imports, then each part without its own. What the client calls `wire.x` is `x` here."""
    sources = [(ROOT / part).read_text() for part in PARTS]
    docstring = ast.get_docstring(ast.parse(sources[-1]), clean=False)
    head = f'"""{docstring}"""\n\nfrom __future__ import annotations\n\n' + "\n".join(_imports(sources))
    *others, client = (_body(source) for source in sources)
    return "\n\n".join([head + "\n", *others, re.sub(r"\bwire\.", "", client)])


def _imports(sources: list[str]) -> list[str]:
    """Of others: ours stand in the file. One line for each module."""
    plain, named = set[str](), defaultdict[str, set[str]](set)
    for node in (node for source in sources for node in ast.parse(source).body if not _is_ours(node)):
        if isinstance(node, ast.Import):
            plain.add(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom):
            named[node.module or ""] |= {alias.name for alias in node.names}
    return [*sorted(plain), *(f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(named.items()))]


def _body(source: str) -> str:
    """Without docstring and imports, comments kept."""
    module, lines = ast.parse(source), source.splitlines()
    for node in module.body:
        if _is_import(node) or node is module.body[0]:
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)  # type: ignore[operator]
    return "\n".join(lines).strip("\n") + "\n"


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _is_ours(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (*OURS, "__future__")
