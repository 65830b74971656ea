"""`./dev` on a machine that lacks something, run for real in a mount namespace of its own: one message, exit code 3, nothing begun."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import REPO

NOBODY = 65534
SEES = "/usr/bin:/bin"  # no other interpreter, none of the test's own environment


@pytest.fixture
def tree(open_folder: Path) -> Iterator[Path]:
    """A fresh clone, as far as `./dev setup` looks at it, of somebody who is not root."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs root: a mount namespace hides what the machine has")
    tree = open_folder / "tree"
    tree.mkdir()
    shutil.copy(REPO / "dev", tree)
    shutil.copytree(REPO / "locks", tree / "locks")
    for path in (tree, *tree.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    yield tree
    shutil.rmtree(tree)


def dev(tree: Path, *binds: tuple[Path, str], uid: int = NOBODY, path: str = SEES) -> subprocess.CompletedProcess[str]:
    """`./dev setup` by `uid`, with each (ours, theirs) of `binds` mounted over the machine's own."""
    mounts = " && ".join(f"mount --bind {ours} {theirs}" for ours, theirs in binds)
    user = f"setpriv --reuid={uid} --regid={uid} --clear-groups"
    line = f"cd {tree} && {mounts} && exec {user} env -i PATH={path} HOME=/nonexistent ./dev setup"
    return subprocess.run(["unshare", "--mount", "sh", "-c", line], check=False, capture_output=True, text=True, timeout=60)


def check_refused(done: subprocess.CompletedProcess[str], tree: Path, code: str, *said: str) -> None:
    assert done.returncode == 3, done.stderr
    what, remedy, see = done.stderr.splitlines()[-3:]
    assert what.startswith(f"./dev: {code}: ")
    assert remedy.startswith("  remedy: ")
    assert see == f"  see: docs/reference/errors.md#{code.lower()}"
    for words in said:
        assert words in what + remedy
    assert sorted(path.name for path in tree.iterdir()) == ["dev", "locks"], "nothing was begun"


@pytest.fixture
def no_broker(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "sbin").mkdir()
    return tmp_path / "sbin", "/usr/sbin"


@pytest.fixture
def other_python(tmp_path: Path) -> tuple[Path, str]:
    """What `python3` is on a machine of another release: it runs, and says that it is not 3.11."""
    other = tmp_path / "python3"
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    return other, os.path.realpath("/usr/bin/python3")


def test_without_the_right_to_install_the_one_line_to_run_is_printed(tree: Path, no_broker: tuple[Path, str]) -> None:
    done = dev(tree, no_broker)
    check_refused(done, tree, "SETUP_NEEDS_APT", "this machine lacks mosquitto")
    assert done.stderr.splitlines()[-2].endswith(": sudo apt-get install -y --no-install-recommends mosquitto")
    assert len(done.stderr.splitlines()) == 3


def test_an_installation_that_fails_is_told_the_same_way(tree: Path, no_broker: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    (tmp_path / "bin/apt-get").chmod(0o755)
    done = dev(tree, no_broker, uid=0, path=f"{tmp_path}/bin:{SEES}")
    check_refused(done, tree, "SETUP_NEEDS_APT", "apt-get could not install mosquitto")
    assert "E: Unable to locate package" in done.stderr


def test_another_python_is_named(tree: Path, other_python: tuple[Path, str]) -> None:
    check_refused(dev(tree, other_python), tree, "SETUP_NEEDS_PYTHON", "none of these is Python 3.11: /usr/bin/python3", "python3-venv")
