"""The yardstick of the demo's lies sees what it is to see: one byte, one link, one entry of the record."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import LocalFaultError
from deploy.local import intact
from deploy.local.intact import Seen
from deploy.local.steps.lies import unharmed
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.core.record import Record

BEFORE = Seen(slots="1" * 64, record="2" * 64, history=("a",), frames=10)


@pytest.fixture
def slots(tmp_path: Path) -> Path:
    for digest in ("1" * 64, "2" * 64):
        (tmp_path / digest).mkdir()
        (tmp_path / digest / "model.onnx").write_bytes(b"model " + digest.encode())
    os.symlink("1" * 64, tmp_path / "current")
    (tmp_path / ".staging").mkdir()
    return tmp_path


def relink(slots: Path) -> None:
    (slots / "current").unlink()
    os.symlink("2" * 64, slots / "current")


HARM: dict[str, Callable[[Path], object]] = {
    "a byte": lambda slots: (slots / ("1" * 64) / "model.onnx").write_bytes(b"Model " + b"1" * 64),
    "a file more": lambda slots: (slots / ("1" * 64) / "extra").write_bytes(b""),
    "a file less": lambda slots: (slots / ("2" * 64) / "model.onnx").unlink(),
    "another name": lambda slots: (slots / ("2" * 64)).rename(slots / ("3" * 64)),
    "another current": relink,
}


@pytest.mark.parametrize("harm", HARM)
def test_any_change_of_the_slots_is_seen(slots: Path, harm: str) -> None:
    before = intact.slots_sha256(slots)
    assert intact.slots_sha256(slots) == before
    HARM[harm](slots)
    assert intact.slots_sha256(slots) != before


def test_what_is_being_fetched_is_no_slot(slots: Path) -> None:
    before = intact.slots_sha256(slots)
    (slots / ".staging" / "half").write_bytes(b"half")
    assert intact.slots_sha256(slots) == before


def test_the_record_is_read_beside_the_running_agent(tmp_path: Path) -> None:
    agent = AgentDb(tmp_path / "agent.db")
    agent.save(Record(execution="c/d/1"))
    first = intact.record_of(tmp_path / "agent.db")
    agent.save(Record(execution="c/d/2"))
    assert "c/d/1" in first
    assert "c/d/2" in intact.record_of(tmp_path / "agent.db")
    agent.close()


@pytest.mark.parametrize("change", [{"slots": "3" * 64}, {"record": "3" * 64}, {"history": ("b",)}, {"frames": 0}])
def test_harm_fails_the_story(change: dict[str, object]) -> None:
    after = replace(BEFORE, frames=20)
    assert unharmed(BEFORE, after)["frames"] == 10
    with pytest.raises(LocalFaultError, match="SETUP_STEP_FAILED"):
        unharmed(BEFORE, replace(BEFORE, **{"frames": 20, **change}))  # type: ignore[arg-type]


def test_an_order_that_was_refused_is_in_the_record_and_what_was_confirmed_stays() -> None:
    after = replace(BEFORE, record="3" * 64, frames=11)
    assert unharmed(BEFORE, after, ordered=True)["record"] == "refused order"
    with pytest.raises(LocalFaultError):
        unharmed(BEFORE, replace(after, history=("a", "b")), ordered=True)
