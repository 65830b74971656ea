"""What several of the tests here stand on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulators.device_process import Lives
from tests.simulators.syscalls import traceable


@pytest.fixture(scope="session")
def ram() -> Iterator[Path]:
    """A folder in memory, where there is one: trees are built there by the thousand."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="skerry-", dir=shm if shm.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users' programs reach. Not below pytest's own: each pytest that starts beside this one closes that again."""
    with tempfile.TemporaryDirectory(prefix="skerry-open-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def recorded_lives(ram: Path) -> Iterator[Lives]:
    """Lives of a device whose every system call on files is recorded."""
    if not traceable(ram):
        pytest.skip("this machine does not let strace trace a process")
    lives = Lives(ram / "recording")
    yield lives
    lives.close()
