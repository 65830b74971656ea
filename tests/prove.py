"""Do the tests see bugs? Plant one after the other into a copy of the tree and want the named tests to fail.

    python -m tests.prove [NAME...]        NAME is a file of tests/planted/ without .patch; default all

A patch's first line is `# must fail: <pytest node ids>`. Each of those tests must pass in the untouched copy and fail in the planted
one; a test that errors before it runs (a patch that breaks the import, a node id that is gone) proves nothing and counts as survived.
Exit code: 0 every bug was seen, 1 a bug survived or a patch no longer applies.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

REPO = Path(__file__).resolve().parent.parent
PLANTED = REPO / "tests" / "planted"
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".cache", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
TESTS_PASSED, TESTS_FAILED = 0, 1  # pytest's exit codes; all others mean that the tests did not run
HEADER = re.compile(r"# must fail: (\S.*)")


@dataclass(frozen=True)
class Bug:
    name: str
    patch: Path
    must_fail: tuple[str, ...]

    @classmethod
    def read(cls, patch: Path) -> Bug:
        header = HEADER.fullmatch(patch.read_text().splitlines()[0])
        if header is None:
            raise SystemExit(f"{patch}: the first line must be `# must fail: <pytest node ids>`")
        return cls(patch.stem, patch, tuple(header[1].split()))


@dataclass(frozen=True)
class Verdict:
    bug: Bug
    seen: bool
    reason: str
    seconds: float


def planted(names: list[str]) -> list[Bug]:
    bugs = [Bug.read(patch) for patch in sorted(PLANTED.glob("*.patch"))]
    unknown = set(names) - {bug.name for bug in bugs}
    if unknown:
        raise SystemExit(f"no such patch in {PLANTED}: {', '.join(sorted(unknown))}")
    return [bug for bug in bugs if not names or bug.name in names]


@contextmanager
def copied_tree() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="skerry-prove-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(REPO, tree, ignore=NOT_COPIED, symlinks=True)
        Path(folder).chmod(0o755)  # tests that start programs under other users read the tree
        yield tree


def apply(bug: Bug, tree: Path, *options: str) -> bool:
    # A repository around the temporary folder would make git apply look elsewhere.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    command = ["git", "apply", "--whitespace=nowarn", *options, str(bug.patch)]
    return subprocess.run(command, cwd=tree, env=environment, check=False, capture_output=True).returncode == 0


@dataclass(frozen=True)
class Outcome:
    code: int  # pytest's exit code
    failed: frozenset[str]  # node ids
    tail: str


def run_tests(tree: Path, nodes: Iterable[str]) -> Outcome:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-rf", *dict.fromkeys(nodes)]
    done = subprocess.run(command, cwd=tree, env=environment, check=False, capture_output=True, text=True)
    failed = re.findall(r"^FAILED (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return Outcome(done.returncode, frozenset(failed), "\n".join(done.stdout.splitlines()[-15:]))


def judge(bug: Bug, tree: Path, *, passes_without: bool = False) -> tuple[bool, str]:
    """(whether all its tests saw the bug, what happened). `passes_without`: the tests are known to pass in the untouched copy."""
    if not passes_without and (sound := run_tests(tree, bug.must_fail)).code != TESTS_PASSED:
        return False, f"the tests do not pass without the bug (exit code {sound.code})\n{sound.tail}"
    if not apply(bug, tree):
        return False, "the patch does not apply: the code has moved on"
    try:
        outcome = run_tests(tree, bug.must_fail)
    finally:
        apply(bug, tree, "--reverse")
    if outcome.code not in (TESTS_PASSED, TESTS_FAILED):
        return False, f"the tests did not run (exit code {outcome.code})\n{outcome.tail}"
    blind = [node for node in bug.must_fail if not any(_within(failed, node) for failed in outcome.failed)]
    return not blind, "seen" if not blind else f"SURVIVED {' '.join(blind)}"


def _within(failed: str, node: str) -> bool:
    """A named file, class or parametrized test has failed when a test in it has."""
    return failed == node or failed.startswith((node + "[", node + "::"))


def prove(bugs: list[Bug], at_once: int) -> Iterator[Verdict]:
    """In the order of `bugs`; each of `at_once` threads has a copy of the tree."""
    with ExitStack() as copies, ThreadPoolExecutor(at_once) as pool:
        trees = SimpleQueue[Path]()
        for _ in range(at_once):
            trees.put(copies.enter_context(copied_tree()))
        tree = trees.get()
        sound = run_tests(tree, [node for bug in bugs for node in bug.must_fail]).code == TESTS_PASSED
        trees.put(tree)
        yield from pool.map(lambda bug: _proven(bug, trees, sound), bugs)


_starting_programs = Lock()  # integration tests start programs on ports of their own: one at a time


def _proven(bug: Bug, trees: SimpleQueue[Path], sound: bool) -> Verdict:
    with _starting_programs if any("integration" in node for node in bug.must_fail) else nullcontext():
        tree, began = trees.get(), time.monotonic()
        try:
            seen, reason = judge(bug, tree, passes_without=sound)
        finally:
            trees.put(tree)
    return Verdict(bug, seen, reason, time.monotonic() - began)


def main() -> int:
    bugs = planted(sys.argv[1:])
    survived = 0
    print(f"{'planted bug':<40} {'verdict':<10} {'s':>6}  tests", flush=True)
    for verdict in prove(bugs, os.cpu_count() or 1):
        survived += not verdict.seen
        word = "seen" if verdict.seen else "SURVIVED"
        print(f"{verdict.bug.name:<40} {word:<10} {verdict.seconds:>6.1f}  {' '.join(verdict.bug.must_fail)}", flush=True)
        if not verdict.seen:
            print(f"    {verdict.reason}", flush=True)
    print(f"{len(bugs) - survived} of {len(bugs)} planted bugs were seen")
    return int(survived > 0 or not bugs)


if __name__ == "__main__":
    raise SystemExit(main())
