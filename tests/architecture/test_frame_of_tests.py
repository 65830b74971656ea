"""The test run itself: an unlisted skip fails it, a listed one is told, a planted bug that survives is told too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import REPO
from tests.prove import Bug, copied_tree, judge


def run_pytest(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_example.py").write_text(f"import pytest\n\n{body}")
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
    return subprocess.run(command, cwd=REPO, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "body",
    [
        "def test_x():\n    pytest.skip('no time')\n",
        "@pytest.mark.skip\ndef test_x(): pass\n",
        "@pytest.mark.xfail(reason='some day')\ndef test_x():\n    assert False\n",
        "pytest.importorskip('no_such_module')\ndef test_x(): pass\n",
    ],
    ids=["skip", "mark", "xfail", "importorskip"],
)
def test_a_skip_for_no_listed_reason_fails_the_run(tmp_path: Path, body: str) -> None:
    done = run_pytest(tmp_path, body + "\n\ndef test_y(): pass\n")
    assert done.returncode != 0, done.stdout
    assert "not in ALLOWED_SKIPS" in done.stdout


def test_a_skip_for_a_listed_reason_is_told_and_passes(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "def test_x():\n    pytest.skip('no Python 3.8 on this machine')\n\n\ndef test_y(): pass\n")
    assert done.returncode == 0, done.stdout
    assert "not run: no Python 3.8 on this machine (1 tests, first:" in done.stdout


HARMLESS = """# must fail: tests/unit/test_errors.py::test_an_unregistered_code_is_a_bug
--- a/contracts/ids.py
+++ b/contracts/ids.py
@@ -11,3 +11,3 @@
 SERVICE_ID = re.compile(r"svc-(?P<role>[a-z]+)-(?P<n>[0-9]+)")
-SERVICE_ROLES = ("control", "ingest", "build")
+SERVICE_ROLES = ("build", "control", "ingest")
 LANES = ("live", "bulk", "alert")
"""


def test_a_bug_that_no_test_sees_has_survived(tmp_path: Path) -> None:
    survivor, stale, lost = (tmp_path / f"{name}.patch" for name in ("survivor", "stale", "lost"))
    survivor.write_text(HARMLESS)
    stale.write_text(HARMLESS.replace('"ingest", "build"', '"ingest", "other"'))
    lost.write_text(HARMLESS.replace("test_an_unregistered_code_is_a_bug", "test_that_is_gone"))
    with copied_tree() as tree:
        verdicts = [judge(Bug.read(patch), tree) for patch in (survivor, stale, lost)]
    assert [seen for seen, _ in verdicts] == [False, False, False]
    survived, stale_reason, lost_reason = (reason for _, reason in verdicts)
    assert survived.startswith("SURVIVED")
    assert "does not apply" in stale_reason
    assert "do not pass without the bug" in lost_reason


def test_a_patch_without_its_tests_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bug.patch").write_text("--- a/x\n")
    with pytest.raises(SystemExit, match="must fail"):
        Bug.read(tmp_path / "bug.patch")


@pytest.mark.parametrize("script", ["dev", "tests/run.sh", "tests/lint.sh", "locks/compile.sh", ".ci/run"])
def test_a_shell_script_can_be_read_and_started(script: str) -> None:
    path = REPO / script
    assert path.stat().st_mode & 0o111, f"{script} is not executable"
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    done = subprocess.run(["bash", "-n", str(path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
