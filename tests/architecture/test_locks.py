"""Lock files: every package pinned by version and hash, and no address of whoever made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.source import REPO

LOCKS = sorted((REPO / "locks").glob("*.txt"))


def requirements(lock: Path) -> list[str]:
    joined = lock.read_text().replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_there_is_one_lock_per_target() -> None:
    assert [lock.stem for lock in LOCKS] == ["control-py311", "dev-py311", "device-py310", "device-py38"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_version_and_hash(lock: Path) -> None:
    loose = [
        line for line in requirements(lock) if not re.match(r"^[a-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line)
    ]
    assert requirements(lock)
    assert loose == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_holds_no_address(lock: Path) -> None:
    assert not re.search(r"https?://|file:|index-url|find-links|@ ", lock.read_text())


def names(lock: str) -> set[str]:
    return {line.partition("==")[0].partition("[")[0] for line in requirements(REPO / "locks" / f"{lock}.txt")}


def test_the_device_has_nothing_of_the_cloud() -> None:
    cloud = {"fastapi", "uvicorn", "sqlalchemy", "alembic", "mlflow-skinny", "deltalake", "pyarrow", "apscheduler", "typer"}
    assert names("device-py310") & cloud == set()
    assert names("device-py38") & (cloud | {"pydantic", "tuf", "cryptography", "paho-mqtt"}) == set()
    assert cloud <= names("control-py311")
