"""The agent's loops over a store whose disk takes no writes: nothing moves, nothing is lost, nothing ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import TransientError, error
from contracts.reports import Hello, ReportAnswer, ReportBatch
from contracts.states import State
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.core.backoff import Backoff
from edge_agent.core.orders import Order
from edge_agent.core.record import Record
from edge_agent.loops.exchange import Exchange
from edge_agent.loops.report import ReportLoop
from edge_agent.loops.update import UpdateLoop
from edge_agent.ports import Draft, WorkerDeath
from processing.latency import empty
from tests.simulators.clock import SimulatedClock

DEVICE = "dev-" + "a" * 26


class FillingDb(AgentDb):
    """agent.db on a disk that the test fills and empties."""

    full = False

    def _check(self, phase: str) -> None:
        if self.full:
            raise error("SETUP_STATE_DISK", "agent.db", f"{phase}: database or disk is full")

    def save(self, record: Record, reports: Sequence[Draft] = ()) -> None:
        self._check("saving")
        super().save(record, reports)

    def add_reports(self, reports: Sequence[Draft]) -> None:
        self._check("keeping reports")
        super().add_reports(reports)

    def confirm_reports(self, accepted: dict[str, int]) -> None:
        self._check("confirming reports")
        super().confirm_reports(accepted)


class Control:
    """Takes reports once, by their number."""

    def __init__(self) -> None:
        self.frames: dict[int, int] = {}
        self.away = False

    def report(self, batch: ReportBatch) -> ReportAnswer:
        if self.away:
            raise TransientError("API_UNREACHABLE")
        for one in batch.reports:
            self.frames[one.seq] = getattr(one, "frames", 0)
        return ReportAnswer(accepted={"": max(self.frames)})


@pytest.fixture
def db(tmp_path: Path) -> Iterator[FillingDb]:
    db = FillingDb(tmp_path / "agent.db")
    yield db
    db.close()


def stamp() -> dict[str, Any]:
    return {"boot_id": "b", "mono_ms": 1, "utc": "2026-01-01T00:00:00Z"}


def window(frames: int) -> dict[str, Any]:
    counts = {"duration_s": 1.0, "frames": frames, "accepted_rows": frames, "refused": 0, "not_finite": 0, "latency": empty()}
    return {"bundle_digest": "d", "shadow_digest": "", **counts}


def report_loop(db: AgentDb, control: Control, exchange: Exchange, clock: SimulatedClock) -> ReportLoop:
    return ReportLoop(
        DEVICE, db, control, exchange, clock, record=Record, hello=lambda: Hello(agent_version="1", profile="p", running_digest=""),
        stamp=stamp, backoff=Backoff(), share=lambda: 0.5,
    )  # fmt: skip


async def passes(exchange: Exchange, clock: SimulatedClock, seconds: float) -> None:
    for _ in range(4):
        exchange.report_wanted.set()
        clock.advance(seconds)
        for _ in range(20):
            await asyncio.to_thread(int)


def test_windows_that_could_not_be_kept_are_reported_later(db: FillingDb) -> None:
    async def story() -> Control:
        control, exchange, clock, stop = Control(), Exchange(), SimulatedClock(), asyncio.Event()
        loop = report_loop(db, control, exchange, clock)
        task = asyncio.create_task(loop.run(stop))
        db.full = True
        for frames in (5, 7):
            exchange.take_window(window(frames))
            await passes(exchange, clock, 10)
        loop.note("OUTBOX_DISK", "this is in the log alone")
        assert (db.waiting(), control.frames) == (0, {})
        db.full = False
        exchange.take_window(window(1))
        await passes(exchange, clock, 30)
        stop.set()
        exchange.wake_all()
        await task
        return control

    control = asyncio.run(story())
    assert sum(control.frames.values()) == 13
    assert sorted(control.frames) == list(range(1, len(control.frames) + 1)), "the numbers are dense"


def test_what_was_sent_but_could_not_be_crossed_off_is_counted_once(db: FillingDb) -> None:
    async def story() -> Control:
        control, exchange, clock, stop = Control(), Exchange(), SimulatedClock(), asyncio.Event()
        control.away = True
        task = asyncio.create_task(report_loop(db, control, exchange, clock).run(stop))
        exchange.take_window(window(5))
        await passes(exchange, clock, 10)
        db.full, control.away = True, False
        await passes(exchange, clock, 60)
        assert (control.frames, db.waiting()) == ({1: 5}, 1)
        db.full = False
        await passes(exchange, clock, 60)
        stop.set()
        exchange.wake_all()
        await task
        return control

    assert asyncio.run(story()).frames == {1: 5}
    assert db.waiting() == 0


class EndlessWorks:
    """Each work runs until it is asked to stop; `begun` are the executions."""

    def __init__(self) -> None:
        self.stopping, self.begun = threading.Event(), list[str]()

    def stop(self) -> None:
        self.stopping.set()

    async def run(self, work: object, record: Record) -> None:
        self.begun.append(record.execution)
        while not self.stopping.is_set():
            await asyncio.to_thread(int)


ORDER = Order(1, "install", "c/d/1", 1, "bundles/p/tiny-1.json", "d" * 64, 100, activate=True)


def test_an_order_that_cannot_be_saved_is_begun_when_it_can(db: FillingDb) -> None:
    async def story() -> tuple[list[str], list[str]]:
        works, exchange, clock, stop = EndlessWorks(), Exchange(), SimulatedClock(), asyncio.Event()
        loop = UpdateLoop(db, works, exchange, clock, share=lambda: 0.5, stamp=stamp)  # type: ignore[arg-type]
        task = asyncio.create_task(loop.run(stop))
        db.full, exchange.order = True, ORDER
        await update_passes(exchange, clock)
        assert (loop.record, db.record()) == (Record(), Record()), "it has not happened, here or there"
        before = list(works.begun)
        db.full = False
        await update_passes(exchange, clock)
        stop.set()
        works.stopping.set()
        exchange.wake_all()
        await task
        return before, works.begun

    before, begun = asyncio.run(story())
    assert "c/d/1" not in before, "no effect before its record"
    assert "c/d/1" in begun
    assert db.record().execution == "c/d/1"


def test_a_death_that_cannot_be_recorded_is_not_forgotten(db: FillingDb) -> None:
    async def story() -> Record:
        works, exchange, clock, stop = EndlessWorks(), Exchange(), SimulatedClock(), asyncio.Event()
        db.save(Record(state=State.PROBATION, kind="install", execution="c/d/1", fence=1, target="d" * 64, previous="e" * 64, min_frames=5))
        loop = UpdateLoop(db, works, exchange, clock, share=lambda: 0.5, stamp=stamp)  # type: ignore[arg-type]
        task = asyncio.create_task(loop.run(stop))
        await update_passes(exchange, clock)
        db.full = True
        exchange.take_death(WorkerDeath("d" * 64, -9, circuit_open=False))
        await update_passes(exchange, clock)
        assert (loop.record.state, len(exchange.deaths)) == (State.PROBATION, 1)
        db.full = False
        await update_passes(exchange, clock)
        stop.set()
        works.stopping.set()
        exchange.wake_all()
        await task
        return db.record()

    record = asyncio.run(story())
    assert (record.state, record.code) == (State.REVERTED, "WORKER_CRASH"), "the way back went to its end"


async def update_passes(exchange: Exchange, clock: SimulatedClock) -> None:
    for _ in range(4):
        exchange.update_wanted.set()
        clock.advance(10)
        for _ in range(20):
            await asyncio.to_thread(int)
