"""The loops on a clock that only the test moves: poll, report, watchdog."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from contracts.assignment import Assignment
from contracts.errors import SkerryError, TransientError, error
from contracts.reports import Hello, ReportAnswer, ReportBatch
from contracts.states import State
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.core.backoff import Backoff
from edge_agent.core.record import Record
from edge_agent.loops import watchdog
from edge_agent.loops.exchange import Exchange
from edge_agent.loops.poll import PollLoop
from edge_agent.loops.report import ReportLoop
from edge_agent.ports import Draft
from processing.latency import bucket, empty
from tests.simulators.clock import SimulatedClock

DEVICE = "dev-" + "a" * 26
REPO = Path(__file__).parents[2]


def assignment(**changes: Any) -> Assignment:
    values = {"device": DEVICE, "desired_generation": 1, "issued_at": datetime(2026, 1, 1, tzinfo=timezone.utc), "kind": "none"}
    return Assignment.model_validate({**values, "poll_interval_s": 10, "report_window_s": 10, **changes})


async def settle() -> None:
    """Let everything that can go on without time go on; threads answer in a moment."""
    for _ in range(20):
        await asyncio.to_thread(int)


async def while_running(loop: Awaitable[None], stop: asyncio.Event, exchange: Exchange, clock: SimulatedClock, story: Any) -> None:
    task = asyncio.ensure_future(loop)
    await settle()
    await story()
    stop.set()
    exchange.wake_all()
    clock.advance(1000)
    await task


# -- poll


class Director:
    def __init__(self) -> None:
        self.answers: list[Assignment | SkerryError] = []
        self.asked = 0

    def __call__(self) -> Assignment:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, SkerryError):
            raise answer
        return answer


def poll_story(answers: list[Any], story: Callable[[Director, Exchange, SimulatedClock, list[str]], Awaitable[None]]) -> None:
    async def run() -> None:
        director, exchange, clock, stop, notes = Director(), Exchange(), SimulatedClock(), asyncio.Event(), list[str]()
        director.answers = answers
        loop = PollLoop(
            DEVICE, director, exchange, clock, share=lambda: 0.5, backoff=Backoff(1, 60), note=lambda code, detail: notes.append(code)
        )
        await while_running(loop.run(stop), stop, exchange, clock, lambda: story(director, exchange, clock, notes))

    asyncio.run(run())


def test_the_server_says_how_often_and_a_hint_makes_it_sooner() -> None:
    async def story(director: Director, exchange: Exchange, clock: SimulatedClock, notes: list[str]) -> None:
        clock.advance(0.4)
        await settle()
        assert director.asked == 0
        clock.advance(0.2)
        await settle()
        assert director.asked == 1
        clock.advance(9.9)
        await settle()
        assert director.asked == 1
        clock.advance(0.2)
        await settle()
        assert director.asked == 2
        exchange.poll_wanted.set()
        await settle()
        assert director.asked == 2
        clock.advance(1)
        await settle()
        assert director.asked == 3

    poll_story([assignment()], story)


def test_a_flood_of_hints_is_a_poll_a_second() -> None:
    """Whoever holds the broker can send as many as he likes."""

    async def story(director: Director, exchange: Exchange, clock: SimulatedClock, notes: list[str]) -> None:
        for _ in range(50):
            exchange.poll_wanted.set()
            clock.advance(0.1)
            await settle()
        assert director.asked in (5, 6)

    poll_story([assignment()], story)


def test_a_hint_does_not_cut_a_back_off_short() -> None:
    async def story(director: Director, exchange: Exchange, clock: SimulatedClock, notes: list[str]) -> None:
        clock.advance(1)
        await settle()
        for _ in range(9):
            exchange.poll_wanted.set()
            clock.advance(10)
            await settle()
        assert director.asked == 1

    poll_story([TransientError("API_UNREACHABLE", retry_after_s=100), assignment()], story)


def test_a_trust_error_is_reported_once_and_polling_goes_on() -> None:
    async def story(director: Director, exchange: Exchange, clock: SimulatedClock, notes: list[str]) -> None:
        for _ in range(40):
            clock.advance(5)
            await settle()
        assert notes == ["TUF_ROLLBACK"]
        assert exchange.order is not None
        assert exchange.order.kind == "install"

    component = {"target": "bundles/p/m-1.json", "length": 1, "sha256": "1" * 64}
    good = assignment(kind="install", execution="c/d/1", fence=1, components=[component])
    poll_story([error("TUF_ROLLBACK"), error("TUF_ROLLBACK"), error("TUF_UNREACHABLE"), good], story)


def test_a_servers_retry_after_wins() -> None:
    async def story(director: Director, exchange: Exchange, clock: SimulatedClock, notes: list[str]) -> None:
        clock.advance(1)
        await settle()
        clock.advance(99)
        await settle()
        assert director.asked == 1
        clock.advance(2)
        await settle()
        assert director.asked == 2

    poll_story([TransientError("API_UNREACHABLE", retry_after_s=100), assignment()], story)


@pytest.mark.parametrize(
    ("bad", "code"),
    [(assignment(device="dev-" + "b" * 26), "ASSIGNMENT_DEVICE"), (assignment(kind="install"), "ASSIGNMENT_INVALID")],
)
def test_an_assignment_that_is_refused_orders_nothing(bad: Assignment, code: str) -> None:
    async def story(director: Director, exchange: Exchange, clock: SimulatedClock, notes: list[str]) -> None:
        for _ in range(5):
            clock.advance(30)
            await settle()
        assert notes == [code]
        assert exchange.order is None

    poll_story([bad], story)


# -- report


class Server:
    """Takes what is next in its sequence; may be away."""

    def __init__(self) -> None:
        self.away, self.foreign = False, ""
        self.have: dict[str, int] = {}
        self.taken: list[Any] = []
        self.calls = 0

    def report(self, batch: ReportBatch) -> ReportAnswer:
        self.calls += 1
        if self.away:
            raise error("API_UNREACHABLE")
        if any(one.execution == self.foreign for one in batch.reports if self.foreign):
            raise error("REPORT_EXECUTION", self.foreign)
        for one in batch.reports:
            if one.seq == self.have.get(one.execution, 0) + 1:
                self.have[one.execution] = one.seq
                self.taken.append(one)
        return ReportAnswer(accepted=dict(self.have))


def window(frames: int = 5, digest: str = "1" * 64) -> dict[str, Any]:
    latency = empty()
    latency[bucket(100)] = frames
    sums = {"duration_s": 1.0, "frames": frames, "accepted_rows": frames, "refused": 0, "not_finite": 0, "cpu_us": 5}
    return {"bundle_digest": digest, **sums, "latency": latency}


def transition() -> dict[str, Any]:
    stamp = {"boot_id": "b", "mono_ms": 1, "utc": "2026-01-01T00:00:00Z"}
    return {"kind": "transition", "state": "OFFERED", "fence": 1, "bundle_digest": "", **stamp}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[AgentDb]:
    db = AgentDb(tmp_path / "agent.db")
    yield db
    db.close()


def report_story(db: AgentDb, record: Record, story: Callable[[Server, Exchange, SimulatedClock], Awaitable[None]]) -> Server:
    server = Server()

    async def run() -> None:
        exchange, clock, stop = Exchange(), SimulatedClock(), asyncio.Event()
        exchange.assignment = assignment()
        stamp = {"boot_id": "b", "mono_ms": 1, "utc": "2026-01-01T00:00:00Z"}
        loop = ReportLoop(
            DEVICE, db, server, exchange, clock, record=lambda: record, stamp=lambda: stamp, backoff=Backoff(1, 4), share=lambda: 1.0,
            hello=lambda: Hello(agent_version="0", profile="p", running_digest=""),
        )  # fmt: skip
        await while_running(loop.run(stop), stop, exchange, clock, lambda: story(server, exchange, clock))

    asyncio.run(run())
    return server


CONFIRMED = Record(state=State.CONFIRMED, execution="c/d/1", fence=1, history=("1" * 64,))


def test_windows_are_summed_to_the_interval_and_judged_states_report_each_second(db: AgentDb) -> None:
    async def story(server: Server, exchange: Exchange, clock: SimulatedClock) -> None:
        for _ in range(20):
            exchange.take_window(window())
            clock.advance(1)
            await settle()

    calm = report_story(db, CONFIRMED, story)
    assert [one.frames for one in calm.taken if one.kind == "window"][:1] == [50]
    probation = Record(state=State.PROBATION, execution="c2/d/1", fence=2, target="1" * 64)
    judged = report_story(db, probation, story)
    assert len(judged.taken) >= 15
    assert all(one.probation for one in judged.taken)
    assert sum(one.frames for one in judged.taken) <= 100


def test_nothing_is_lost_while_the_cloud_is_away(db: AgentDb) -> None:
    async def story(server: Server, exchange: Exchange, clock: SimulatedClock) -> None:
        server.away = True
        db.add_reports([Draft("c/d/1", transition())])
        for _ in range(30):
            exchange.take_window(window())
            exchange.report_wanted.set()
            clock.advance(1)
            await settle()
        assert server.calls < 15  # back-off, whatever wakes the loop
        server.away = False
        for _ in range(12):
            clock.advance(1)
            await settle()

    server = report_story(db, CONFIRMED, story)
    assert [one.seq for one in server.taken] == list(range(1, len(server.taken) + 1))
    assert sum(one.frames for one in server.taken if one.kind == "window") + sum(
        one.body.get("frames", 0) for one in db.pending(100)
    ) == 30 * 5  # fmt: skip


def test_a_server_that_takes_nothing_is_not_asked_in_a_circle(db: AgentDb) -> None:
    async def story(server: Server, exchange: Exchange, clock: SimulatedClock) -> None:
        server.have["c/d/1"] = 50
        db.add_reports([Draft("other", transition())])
        server.have["other"] = -5
        exchange.report_wanted.set()
        await settle()
        assert server.calls <= 2

    report_story(db, CONFIRMED, story)


def test_reports_that_are_never_taken_do_not_block_the_rest(db: AgentDb) -> None:
    async def story(server: Server, exchange: Exchange, clock: SimulatedClock) -> None:
        server.foreign = "old-site"
        db.add_reports([Draft("old-site", transition()), Draft("c/d/1", transition())])
        exchange.report_wanted.set()
        await settle()
        assert [one.execution for one in server.taken] == ["c/d/1"]
        assert db.pending(9) == []

    report_story(db, CONFIRMED, story)


def test_reports_are_numbered_densely_across_restarts(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        db = AgentDb(tmp_path / "agent.db")
        db.add_reports([Draft("e", {})])
        assert [one.seq for one in db.pending(9)] == [expected]
        db.confirm_reports({"e": expected})
        db.close()


# -- watchdog, control socket


def test_the_watchdog_is_fed_only_after_a_completed_pass(tmp_path: Path) -> None:
    async def story(fed: socket.socket) -> list[int]:
        exchange, clock, stop, counts = Exchange(), SimulatedClock(), asyncio.Event(), list[int]()
        task = asyncio.ensure_future(watchdog.run(exchange, clock, stop, 2.0))
        for passes in (True, False, False, True):
            if passes:
                exchange.completed("update")
            await settle()
            clock.advance(2.1)
            await settle()
            counts.append(_drained(fed))
        stop.set()
        await task
        return counts

    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as fed:
        fed.bind(str(path))
        fed.setblocking(False)
        os.environ["NOTIFY_SOCKET"] = str(path)
        try:
            assert asyncio.run(story(fed)) == [1, 0, 0, 1]
        finally:
            del os.environ["NOTIFY_SOCKET"]


def _drained(fed: socket.socket) -> int:
    count = 0
    while True:
        try:
            count += fed.recv(100) == b"WATCHDOG=1"
        except BlockingIOError:
            return count


# -- what the agent process may load


BARRED = ("numpy", "nanoarrow", "onnxruntime", "fastapi", "mlflow", "sqlalchemy", "deltalake", "pyarrow", "pyspark", "PIL")


def test_the_agent_core_loads_without_what_it_must_not_need() -> None:
    code = f"""
import sys
for name in {BARRED!r}:
    sys.modules[name] = None
import edge_agent.cli, edge_agent.agent, edge_agent.adapters.tuf_client
assert "cryptography.x509" not in sys.modules, "a megabyte, for renewals only"
import edge_agent.adapters.enrolment
print(open("/proc/self/status").read().split("VmRSS:")[1].split()[0])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) < 60 * 1024
