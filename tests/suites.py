"""Which test files run under an older Python: those that import, directly or through our code, only what is there, and some of what runs
on a device. (A test of a test's own simulator need not work on a board's Python.)

    python tests/suites.py device-py38     prints the files, one a line

Derived from the imports themselves, so that a new test of the worker or the agent runs on the board's Python without being listed.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
FOLDERS = ("unit", "property", "contract")


@dataclass(frozen=True)
class Suite:
    python: str
    product: tuple[str, ...]  # modules of ours that must run there; a name covers what lies below it

    @property
    def ours(self) -> tuple[str, ...]:
        return self.product + _TESTS


_WORKER = (
    "processing",
    "edge_agent.inference.worker",
    "edge_agent.inference.exits",
    "edge_agent.inference.wire",
    "edge_agent.inference.client",
)
_AGENT = (
    "contracts",
    "program",
    "signatures",
    "firmware_profiles",
    "processing",
    "edge_agent",
    "sync.codec",
    "sync.watermark",
    "sync.uplink",
)
_TESTS = ("tests.simulators", "tests.contract", "tests.unit", "tests.property")
SUITES = {
    "device-py38": Suite("3.8", _WORKER),
    "device-py310": Suite("3.10", _AGENT),
}
# distribution in the lock -> the name it is imported by, where they differ
IMPORT_NAMES = {"paho-mqtt": "paho", "pillow": "PIL", "pytest-timeout": "pytest_timeout", "tomli-w": "tomli_w", "protobuf": "google"}
OUR_ROOTS = ("contracts", "program", "signatures", "firmware_profiles", "processing", "edge_agent", "sync", "control_plane", "examples",
             "deploy", "docs", "tests")  # fmt: skip


def test_files(suite: str) -> list[Path]:
    candidates = [path for folder in FOLDERS for path in sorted((REPO / "tests" / folder).glob("test_*.py"))]
    return [path for path in candidates if _about_product(suite, path) and not missing(suite, path)]


def _about_product(suite: str, path: Path) -> bool:
    return any(_covered(name, SUITES[suite].product) for name in _closure(path) if _file_of(name))


def missing(suite: str, path: Path) -> set[str]:
    """What the file needs and the suite's environment lacks."""
    there, ours = _installed(suite), SUITES[suite].ours
    wanted = _closure(path)
    foreign = {name.split(".")[0] for name in wanted if name.split(".")[0] not in OUR_ROOTS} - there - sys.stdlib_module_names
    own = {name for name in wanted if name.split(".")[0] in OUR_ROOTS and _file_of(name) and not _covered(name, ours)}
    return foreign | own


def _covered(name: str, ours: tuple[str, ...]) -> bool:
    is_parent = any(root.startswith(name + ".") for root in ours)  # the packages above carry nothing but a docstring
    return is_parent or any(name == root or name.startswith(root + ".") for root in ours) or name == "tests"


def _installed(suite: str) -> set[str]:
    lock = (REPO / "locks" / f"{suite}.txt").read_text()
    names = re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE)
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def _closure(path: Path) -> set[str]:
    """Dotted names of all that `path` imports, through our own modules."""
    seen: set[str] = set()
    waiting = list(_imports(path))
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        file = _file_of(name)
        if file:
            waiting += _imports(file)
    return seen


def _file_of(name: str) -> Path | None:
    base = REPO.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _imports(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names if _file_of(f"{node.module}.{alias.name}"))
    return frozenset(names)


if __name__ == "__main__":
    print("\n".join(str(path.relative_to(REPO)) for path in test_files(sys.argv[1])))
