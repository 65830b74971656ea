"""Do the tests see bugs? Plant one after the other into a copy of the tree and want the named tests to fail.

    python -m tests.prove [NAME...]        NAME is a file of tests/planted/ without .patch; default all

A patch's first line is `# must fail: <pytest node ids>`. Each of those tests must pass in the untouched copy and fail in the planted
one; a test that errors before it runs (a patch that breaks the import, a node id that is gone) proves nothing and counts as survived.
Exit code: 0 every bug was seen, 1 a bug survived or a patch no longer applies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

REPO = Path(__file__).resolve().parent.parent
PLANTED = REPO / "tests" / "planted"
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".cache", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
TESTS_PASSED, TESTS_FAILED = 0, 1  # pytest's exit codes; all others mean that the tests did not run
AT_A_TIME = 10  # bugs, whose tests are first seen to pass without them
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


@dataclass(frozen=True)
class Outcome:
    code: int  # pytest's exit code
    failed: frozenset[str]  # node ids
    tail: str


@dataclass(frozen=True)
class Tree:
    """A copy of the tree, and a warm pytest in it."""

    folder: Path
    pytest: subprocess.Popen[str]

    def apply(self, bug: Bug, *options: str) -> bool:
        # A repository around the temporary folder would make git apply look elsewhere.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(self.folder.parent)}
        command = ["git", "apply", "--whitespace=nowarn", *options, str(bug.patch)]
        return subprocess.run(command, cwd=self.folder, env=environment, check=False, capture_output=True).returncode == 0

    def run_tests(self, nodes: Iterable[str]) -> Outcome:
        assert self.pytest.stdin is not None
        assert self.pytest.stdout is not None
        with tempfile.NamedTemporaryFile("r") as output:
            request = [output.name, ["-p", "no:cacheprovider", "--tb=short", "-rf", *dict.fromkeys(nodes)]]
            print(json.dumps(request), file=self.pytest.stdin, flush=True)
            code, said = int(self.pytest.stdout.readline()), output.read()
        failed = re.findall(r"^FAILED (.+?)(?: - .*)?$", said, re.MULTILINE)
        return Outcome(code, frozenset(failed), "\n".join(said.splitlines()[-15:]))


@contextmanager
def copied_tree() -> Iterator[Tree]:
    with tempfile.TemporaryDirectory(prefix="skerry-prove-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(REPO, tree, ignore=NOT_COPIED, symlinks=True)
        Path(folder).chmod(0o755)  # tests that start programs under other users read the tree
        # By hash, because a bug may be planted within the second in which its file was compiled.
        subprocess.run([sys.executable, "-m", "compileall", "-qq", "--invalidation-mode", "checked-hash", tree], check=True)
        environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(tree / "tests/warm_pytest.py")]
        with subprocess.Popen(command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pytest:
            yield Tree(tree, pytest)


def judge(bug: Bug, tree: Tree, *, passes_without: bool = False) -> tuple[bool, str]:
    """(whether all its tests saw the bug, what happened). `passes_without`: the tests are known to pass in the untouched copy."""
    if not passes_without and (sound := tree.run_tests(bug.must_fail)).code != TESTS_PASSED:
        return False, f"the tests do not pass without the bug (exit code {sound.code})\n{sound.tail}"
    if not tree.apply(bug):
        return False, "the patch does not apply: the code has moved on"
    try:
        outcome = tree.run_tests(bug.must_fail)
    finally:
        tree.apply(bug, "--reverse")
    if outcome.code not in (TESTS_PASSED, TESTS_FAILED):
        return False, f"the tests did not run (exit code {outcome.code})\n{outcome.tail}"
    blind = [node for node in bug.must_fail if not any(_within(failed, node) for failed in outcome.failed)]
    return not blind, "seen" if not blind else f"SURVIVED {' '.join(blind)}"


def _within(failed: str, node: str) -> bool:
    """A named file, class or parametrized test has failed when a test in it has."""
    return failed == node or failed.startswith((node + "[", node + "::"))


def prove(bugs: list[Bug], at_once: int, tell: Callable[[Verdict], None]) -> None:
    """Each of `at_once` threads has a copy of the tree; `tell` is called in them."""
    with ExitStack() as copies, ThreadPoolExecutor(at_once) as pool:
        trees = SimpleQueue[Tree]()
        for tree in pool.map(lambda _: copies.enter_context(copied_tree()), range(at_once)):
            trees.put(tree)
        list(pool.map(lambda job: _prove_in_turn(job, trees, tell), _jobs(bugs)))  # raises what was raised there


def _jobs(bugs: list[Bug]) -> list[list[Bug]]:
    """Integration tests start programs and take long: one at a time, and from the beginning."""
    starting = [bug for bug in bugs if any("integration" in node for node in bug.must_fail)]
    others = [bug for bug in bugs if bug not in starting]
    jobs = [starting, *(others[at : at + AT_A_TIME] for at in range(0, len(others), AT_A_TIME))]
    return [job for job in jobs if job]


def _prove_in_turn(bugs: list[Bug], trees: SimpleQueue[Tree], tell: Callable[[Verdict], None]) -> None:
    tree = trees.get()
    try:
        sound = tree.run_tests(node for bug in bugs for node in bug.must_fail).code == TESTS_PASSED
        for bug in bugs:
            began = time.monotonic()
            seen, reason = judge(bug, tree, passes_without=sound)
            tell(Verdict(bug, seen, reason, time.monotonic() - began))
    finally:
        trees.put(tree)


def _print(verdict: Verdict) -> None:
    word = "seen" if verdict.seen else "SURVIVED"
    told = f"{verdict.bug.name:<40} {word:<10} {verdict.seconds:>6.1f}  {' '.join(verdict.bug.must_fail)}"
    print(told if verdict.seen else f"{told}\n    {verdict.reason}", flush=True)


def main() -> int:
    bugs, seen = planted(sys.argv[1:]), list[str]()

    def tell(verdict: Verdict) -> None:
        _print(verdict)
        seen.extend([verdict.bug.name] * verdict.seen)

    print(f"{'planted bug':<40} {'verdict':<10} {'s':>6}  tests", flush=True)
    prove(bugs, os.cpu_count() or 1, tell)
    print(f"{len(seen)} of {len(bugs)} planted bugs were seen")
    return int(len(seen) < len(bugs) or not bugs)


if __name__ == "__main__":
    raise SystemExit(main())
