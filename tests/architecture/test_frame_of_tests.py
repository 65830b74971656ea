"""The test run itself: an unlisted skip fails it, a listed one is told, a planted bug that survives is told too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import REPO
from tests.prove import Bug, copied_tree, judge


def run_pytest(folder: Path, **bodies: str) -> subprocess.CompletedProcess[str]:
    for name, body in bodies.items():
        (folder / f"test_{name}.py").write_text(f"import pytest\n\n{body}")
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "-c",
        str(folder / "pytest.ini"),
        str(folder),
    ]
    here = {**os.environ, "SKERRY_NOT_RUN": str(folder / "not_run")}  # what this inner run skips is no news of the outer one
    return subprocess.run(command, cwd=REPO, env=here, check=False, capture_output=True, text=True, timeout=100)


SKIPPED = {
    "call": "def test_x():\n    pytest.skip('no time')\n",
    "mark": "@pytest.mark.skip(reason='not today')\ndef test_x(): pass\n",
    "xfail": "@pytest.mark.xfail(reason='some day')\ndef test_x():\n    assert False\n",
    "module": "pytest.importorskip('no_such_module')\ndef test_x(): pass\n",
}


def test_a_skip_for_no_listed_reason_fails_the_run(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, passes="def test_y(): pass\n", **SKIPPED)
    assert done.returncode == 1, done.stdout
    told = [line for line in done.stdout.splitlines() if "not in ALLOWED_SKIPS" in line]
    assert len(told) == len(SKIPPED), done.stdout


def test_a_skip_for_a_listed_reason_is_told_and_passes(tmp_path: Path) -> None:
    listed = "def test_x():\n    pytest.skip('no Python 3.8 on this machine')\n\n\ndef test_y(): pass\n"
    done = run_pytest(tmp_path, listed=listed)
    assert done.returncode == 0, done.stdout
    assert "not run: no Python 3.8 on this machine (1 tests, first:" in done.stdout
    assert (tmp_path / "not_run").read_text() == "not run: no Python 3.8 on this machine (1 tests)\n"


HARMLESS = """# must fail: tests/unit/test_errors.py::test_an_unregistered_code_is_a_bug
--- a/contracts/ids.py
+++ b/contracts/ids.py
@@ -11,3 +11,3 @@
 SERVICE_ID = re.compile(r"svc-(?P<role>[a-z]+)-(?P<n>[0-9]+)")
-SERVICE_ROLES = ("control", "ingest", "build")
+SERVICE_ROLES = ("build", "control", "ingest")
 LANES = ("windows", "live", "bulk", "alert")  # in the order in which they go: windows are few, and say most
"""


def test_a_bug_that_no_test_sees_has_survived(tmp_path: Path) -> None:
    survivor, stale, lost = (tmp_path / f"{name}.patch" for name in ("survivor", "stale", "lost"))
    survivor.write_text(HARMLESS)
    stale.write_text(HARMLESS.replace('"ingest", "build"', '"ingest", "other"'))
    lost.write_text(HARMLESS.replace("test_an_unregistered_code_is_a_bug", "test_that_is_gone"))
    with copied_tree() as tree:
        survived = judge(Bug.read(survivor), tree)
        moved_on = judge(Bug.read(stale), tree, passes_without=True)
        gone = judge(Bug.read(lost), tree)
    assert [seen for seen, _ in (survived, moved_on, gone)] == [False, False, False]
    assert survived[1].startswith("SURVIVED")
    assert "does not apply" in moved_on[1]
    assert "do not pass without the bug" in gone[1]


def test_a_patch_without_its_tests_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bug.patch").write_text("--- a/x\n")
    with pytest.raises(SystemExit, match="must fail"):
        Bug.read(tmp_path / "bug.patch")


@pytest.mark.parametrize("script", ["dev", "tests/run.sh", "tests/lint.sh", "locks/compile.sh", "locks/install.sh", ".ci/run"])
def test_a_shell_script_can_be_read_and_started(script: str) -> None:
    path = REPO / script
    assert path.stat().st_mode & 0o111, f"{script} is not executable"
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    done = subprocess.run(["bash", "-n", str(path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
