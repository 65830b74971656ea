"""The pipeline as a real process over a folder of pictures, with real workers: rows, windows, routes, and the books over every death."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contracts.errors import SkerryError, TransientError, error
from contracts.reports import Window
from edge_agent.inference.host import WorkerHost
from edge_agent.pipeline.link import PipelineLink
from processing import pipeline
from tests.simulators.bundles import PROCESSING, fake_slot
from tests.simulators.onnx_bundles import onnx_slot, weights

FPS = 50
WAIT_S = 20.0
PICTURES = [np.random.default_rng(seed).integers(0, 256, (24, 24), dtype=np.uint8) for seed in range(6)]


class Ledger:
    """The accepting side: keeps rows durably enough for a test, and refuses on demand."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, list[Any]]] = []
        self.refuse: SkerryError | None = None
        self.seq = 0

    def accept(self, lane: str, schema_id: str, digest: str, rows: list[list[Any]]) -> tuple[str, int]:
        if self.refuse is not None:
            raise self.refuse
        assert (lane, len(schema_id)) == ("live", 16)
        self.rows += [(digest, row) for row in rows]
        self.seq += 1
        return "dev/live/0", self.seq

    def count(self) -> int:
        return len(self.rows)

    def numbers(self) -> list[int]:
        return [row[0] for _, row in self.rows]


class Site:
    def __init__(self, folder: Path, patience_s: float) -> None:
        self.folder, self.ledger = folder, Ledger()
        frames = folder / "frames"
        frames.mkdir(exist_ok=True)
        for number, picture in enumerate(PICTURES):
            Image.fromarray(picture).save(frames / f"frame-{number:05}.png")
        self.host = WorkerHost(sys.executable, folder / "run")
        self.source = {"kind": "folder", "path": str(frames), "fps": FPS, "deadline_frames": FPS * patience_s}
        self.link = self.new_link()

    def new_link(self) -> PipelineLink:
        return PipelineLink(
            self.host, self.folder / "run", sys.executable, self.source, self.ledger.accept, accepted_rows=self.ledger.count
        )

    async def load(self, make: Any, *faults: Any, **changes: Any) -> str:
        digest, slot, manifest = make(self.folder / "slots", *faults, **changes)
        await self.host.load(digest, slot, manifest)
        return str(digest)

    async def window(self, wanted: Any = lambda window: True) -> dict[str, Any]:
        """The next window that is wanted; each one must fit the report that the agent makes of it."""
        while True:
            window = await asyncio.wait_for(self.link.windows.get(), WAIT_S)
            Window(execution="e", fence=1, seq=1, boot_id="b", mono_ms=0, utc="", **{k: v for k, v in window.items() if k != "kind"})
            if wanted(window):
                return window

    async def rows(self, count: int) -> None:
        """Until the ledger holds `count` rows."""
        while self.ledger.count() < count:
            await self.window()

    def check_books(self) -> None:
        """Once nothing runs: each frame number is a row or a refusal, none is both or twice."""
        counters, numbers = self.link.counters(), self.ledger.numbers()
        assert counters["pending"] == 0
        assert counters["frames"] == counters["accepted_rows"] + counters["refused"]
        assert counters["accepted_rows"] == len(numbers) == len(set(numbers))
        assert numbers == sorted(numbers)
        assert not numbers or numbers[-1] < counters["frames"]


@asynccontextmanager
async def site(folder: Path, patience_s: float = 0.5) -> AsyncIterator[Site]:
    """Frames may be late by `patience_s`: the machine is shared with other tests, and lateness is the question of one test only."""
    made = Site(folder, patience_s)
    try:
        yield made
    finally:
        await made.link.close()
        await made.host.close()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def test_rows_are_what_model_and_processing_say_and_times_are_regular(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            assert await made.link.route(None, None) == 0
            digest = await made.load(onnx_slot)
            first = await made.link.route(digest, None)
            await made.rows(30)
            window = await made.window(lambda w: w["frames"] > 0)
            assert (window["bundle_digest"], window["shadow_digest"], window["not_finite"]) == (digest, "", 0)
            assert sum(window["latency"]) >= window["accepted_rows"] - window["pending"] > 0
            await made.link.close()
            compiled = pipeline.compile(PROCESSING)
            for by, (frame_no, _, mono_us, label, score) in made.ledger.rows:
                wanted = compiled.post(compiled(PICTURES[frame_no % len(PICTURES)]).reshape(1, -1) @ weights())
                assert (by, label) == (digest, wanted["label"])
                assert score == pytest.approx(wanted["score"], abs=1e-4)
                assert 0 < mono_us <= time.monotonic_ns() // 1000
            assert made.ledger.numbers()[0] == first
            made.check_books()

    run(scenario())


def test_shadow_gives_pairs_and_a_switch_names_the_first_frame(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            old, new = await made.load(onnx_slot), await made.load(onnx_slot, seed=4, number=2)
            await made.link.route(old, None)
            await made.link.route(old, new)
            window = await made.window(lambda w: w["pairs"] > 10)
            assert (window["bundle_digest"], window["shadow_digest"]) == (old, new)
            assert 0 <= window["agreed"] <= window["pairs"]
            assert sum(window["shadow_latency"]) >= window["pairs"]
            switch = await made.link.route(new, None)
            await made.host.unload(old)
            await made.window(lambda w: w["bundle_digest"] == new and w["accepted_rows"] > 10)
            await made.link.close()
            assert {by for by, row in made.ledger.rows if row[0] < switch} == {old}
            assert {by for by, row in made.ledger.rows if row[0] >= switch} == {new}
            made.check_books()

    run(scenario())


def test_a_dead_worker_costs_counted_frames_and_no_silence(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, patience_s=2 / FPS) as made:
            digest = await made.load(onnx_slot)
            await made.link.route(digest, None)
            await made.rows(10)
            os.kill(made.host.pids()[digest], signal.SIGKILL)
            window = await made.window(lambda w: w["refused"] > 0)
            assert set(window["refusals"]) <= {"ARENA_TIMEOUT", "ARENA_BUSY", "WORKER_CRASH", "FRAME_LATE"}
            await made.rows(made.ledger.count() + 10)
            await made.link.close()
            made.check_books()
            assert made.link.counters()["refused"] > 0

    run(scenario())


def test_frames_of_a_killed_pipeline_are_refused_exactly_and_numbers_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(onnx_slot)
            await made.link.route(digest, None)
            for _ in range(2):
                await made.rows(made.ledger.count() + 15)
                pid = made.link.pid()
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                while made.link.pid() in (None, pid):
                    await made.window()  # at the latest the next process's first one
            await made.rows(made.ledger.count() + 15)
            await made.link.close()
            made.check_books()

    run(scenario())


def test_windows_and_counters_tell_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(onnx_slot)
            await made.link.route(digest, None)
            told, kills = {"frames": 0, "accepted_rows": 0, "refused": 0}, 1
            while told["accepted_rows"] < 100:
                window = await made.window()
                told = {key: value + window[key] for key, value in told.items()}
                if kills and told["accepted_rows"] > 30:
                    kills -= 1
                    os.kill(made.link.pid() or 0, signal.SIGKILL)
            await made.link.close()
            while not made.link.windows.empty():
                window = made.link.windows.get_nowait()
                told = {key: value + window[key] for key, value in told.items()}
            assert told == {key: made.link.counters()[key] for key in told}

    run(scenario())


def test_a_full_outbox_refuses_counts_and_recovers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(onnx_slot)
            await made.link.route(digest, None)
            made.ledger.refuse = TransientError("OUTBOX_FULL", "live", retry_after_s=0.1)
            window = await made.window(lambda w: w["refused"] > 0)
            assert set(window["refusals"]) == {"OUTBOX_FULL"}
            made.ledger.refuse = error("OUTBOX_SCHEMA", "live")
            await made.window(lambda w: "OUTBOX_SCHEMA" in w["refusals"])
            made.ledger.refuse = None
            await made.rows(20)
            await made.link.close()
            made.check_books()

    run(scenario())


def test_a_model_that_is_not_finite_gives_no_row(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(fake_slot, {"do": "nan", "after": 500})
            await made.link.route(digest, None)
            window = await made.window(lambda w: w["not_finite"] > 5)
            assert window["refusals"]["WORKER_NOT_FINITE"] == window["not_finite"]
            await made.link.close()
            made.check_books()

    run(scenario())


def test_a_bundle_with_unknown_processing_leaves_the_old_route(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            good, bad = await made.load(onnx_slot), await made.load(onnx_slot, seed=4, number=2)
            (tmp_path / "slots" / bad / "processing.json").write_text('{"pre": [{"op": "enhance"}], "post": [{"op": "top1"}]}')
            await made.link.route(good, None)
            for routes in ((bad, None), (good, bad)):
                with pytest.raises(SkerryError, match="BUNDLE_PROCESSING"):
                    await made.link.route(*routes)
            await made.rows(made.ledger.count() + 20)
            assert {by for by, _ in made.ledger.rows} == {good}
            with pytest.raises(SkerryError, match="WORKER_START"):
                await made.link.route("0" * 64, None)

    run(scenario())


def test_a_source_that_goes_away_costs_counted_frames_and_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            frames, away = tmp_path / "frames", tmp_path / "away"
            frames.rename(away)
            await made.link.route(await made.load(onnx_slot), None)
            pid = made.link.pid()
            await made.window(lambda window: window["refusals"].get("FRAME_SOURCE", 0) > 5)
            away.rename(frames)
            await made.rows(10)
            frames.rename(away)
            await made.window(lambda window: window["refusals"].get("FRAME_SOURCE", 0) > 5)
            away.rename(frames)
            await made.rows(made.ledger.count() + 10)
            assert made.link.pid() == pid
            await made.link.close()
            made.check_books()

    run(scenario())


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


def descriptors_of(pid: int | None) -> int:
    """0 when the process is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


async def die(link: PipelineLink) -> None:
    """What SIGKILL of the agent does to its link: nothing is settled, the pipeline dies with it. Frames are pending when this returns."""
    pid = link.pid() or 0
    await until(lambda: link.counters()["pending"] > 0)
    os.kill(pid, signal.SIGSTOP)
    assert link._keeper is not None
    link._keeper.cancel()
    await asyncio.gather(link._keeper, return_exceptions=True)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not descriptors_of(pid))
    link._keeper = None
    await link.close()


def test_an_agent_that_was_killed_finds_its_books_true(tmp_path: Path) -> None:
    """A second link on the same run folder stands for the next agent."""

    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(onnx_slot)
            await made.link.route(digest, None)
            await made.rows(20)
            await die(made.link)
            left = made.link.counters()
            made.ledger.rows.append((digest, [left["frames"] - 1, 0, 0, 0, 0.0]))  # committed, and the agent died before it counted it
            made.link = made.new_link()
            assert await made.link.route(digest, None) == left["frames"]
            now = made.link.counters()
            assert now["accepted_rows"] + now["refused"] >= left["frames"]
            assert now["refused"] == left["refused"] + left["pending"] - 1
            await made.rows(made.ledger.count() + 10)
            await made.link.close()
            made.check_books()

    run(scenario())


def test_closing_hands_over_the_last_rows_and_leaks_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(onnx_slot)
            before = len(os.listdir("/proc/self/fd"))
            await made.link.route(digest, None)
            await made.window()
            pid = made.link.pid()
            await made.link.close()
            assert len(os.listdir("/proc/self/fd")) == before
            assert not descriptors_of(pid)
            made.check_books()
            assert made.link.counters()["refused"] == 0

    run(scenario())


def test_switching_routes_leaks_no_descriptor_in_the_pipeline(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            one, two = await made.load(onnx_slot), await made.load(onnx_slot, seed=4, number=2)
            await made.link.route(one, None)
            before = descriptors_of(made.link.pid())
            for _ in range(5):
                await made.link.route(one, two)
                await made.link.route(two, None)
                await made.link.route(one, None)
            assert descriptors_of(made.link.pid()) <= before + 1  # a picture may be open just now

    run(scenario())
