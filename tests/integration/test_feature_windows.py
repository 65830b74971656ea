"""Feature windows in the real pipeline process: their rows are what the rows of frames come to, over a switch of bundles and a SIGKILL."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import SkerryError, error
from processing import windows
from tests.integration.test_pipeline_process import Ledger, Site, run, site
from tests.simulators.bundles import COLUMNS, PROCESSING, window_schemas
from tests.simulators.onnx_bundles import onnx_slot

FEATURES = [
    {"name": "mean_score", "how": "mean", "of": "score"},
    {"name": "spread", "how": "std", "of": "score"},
    {"name": "zeros", "how": "share", "of": "label", "value": 0},
]
WINDOWED = {
    **PROCESSING,
    "windows": [{"name": "twenty", "frames": 20, "features": FEATURES}, {"name": "second", "every_s": 1, "features": FEATURES}],
}
TWENTY, SECOND = windows.compile(WINDOWED, COLUMNS)
NO, FRAMES, WHOLE, FIRST_VALUE = 3, 5, 6, 7


class BothLanes(Ledger):
    """Windows beside the rows of frames: (digest, schema id, row)."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[tuple[str, str, list[Any]]] = []
        self.refuse_windows: SkerryError | None = None
        self.turned_away = 0

    def accept(self, lane: str, schema_id: str, digest: str, rows: list[list[Any]]) -> tuple[str, int]:
        if lane == "windows":
            if self.refuse_windows is not None:
                self.turned_away += len(rows)
                raise self.refuse_windows
            self.windows += [(digest, schema_id, row) for row in rows]
            return "dev/windows/0", 1
        return super().accept(lane, schema_id, digest, rows)

    def of(self, number: int) -> list[tuple[str, list[Any]]]:
        """Rows of the window at that place of processing.json."""
        wanted = window_schemas(WINDOWED)[number].schema_id
        return [(digest, row) for digest, schema_id, row in self.windows if schema_id == wanted]


def both_lanes(made: Site) -> BothLanes:
    made.ledger = ledger = BothLanes()
    made.link = made.new_link()
    return ledger


async def until(made: Site, count: Any, wanted: int) -> None:
    while count() < wanted:
        await made.window()


def test_window_rows_are_what_the_rows_of_frames_come_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            ledger = both_lanes(made)
            old = await made.load(onnx_slot, processing=WINDOWED)
            new = await made.load(onnx_slot, seed=4, number=2, processing=WINDOWED)
            await made.link.route(old, None)
            await until(made, lambda: len(ledger.of(1)), 1)
            await made.link.route(old, new)
            await until(made, lambda: len(ledger.of(1)), 3)
            await made.link.route(new, None)
            await made.host.unload(old)
            await until(made, lambda: len(ledger.of(1)), 5)
            await made.link.close()
            made.check_books()
            for number, window in enumerate((TWENTY, SECOND)):
                for digest in (old, new):
                    seen = [row for by, row in ledger.of(number) if by == digest]
                    computed = windows.windows_of(window, [row for by, row in ledger.rows if by == digest])
                    assert [without_whole(row) for row in seen] == [without_whole(row) for row in computed]
                    assert [row[WHOLE] for row in seen[1:-1]] == [True] * (len(seen) - 2), "the shadow that came cut none"
                    assert not seen[-1][WHOLE] or seen[-1][0] % 20 == 19, "the bundle ended inside of it"

    run(scenario())


def without_whole(row: list[Any]) -> list[Any]:
    return [*row[:WHOLE], *(pytest.approx(value, abs=1e-12) for value in row[FIRST_VALUE:])]


def test_a_killed_pipeline_leaves_no_window_that_is_called_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            ledger = both_lanes(made)
            await made.link.route(await made.load(onnx_slot, processing=WINDOWED), None)
            await until(made, lambda: len(ledger.of(0)), 1)
            while not 5 <= (frames := made.link.counters()["frames"]) % 20 < 15:
                await made.window()
            killed, pid = frames // 20, made.link.pid()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(made, lambda: ledger.of(0)[-1][1][NO], killed + 1)
            await made.link.close()
            made.check_books()
            broken = [row for _, row in ledger.of(0) if row[NO] == killed]
            assert [(row[WHOLE], row[FRAMES] < 20) for row in broken] == [(False, True)], "the part after the restart, and it says so"
            for _, row in ledger.of(0):
                assert not row[WHOLE] or row[FRAMES] >= sum(number // 20 == row[NO] for number in ledger.numbers())

    run(scenario())


def test_rows_of_frames_stay_on_the_device_where_only_windows_are_wanted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            ledger = both_lanes(made)
            await made.link.route(await made.load(onnx_slot, processing={**WINDOWED, "rows": "windows"}), None)
            await until(made, lambda: len(ledger.of(0)), 2)
            await made.link.close()
            counters = made.link.counters()
            assert (ledger.rows, counters["accepted_rows"], counters["pending"]) == ([], 0, 0)
            assert counters["frames"] == counters["kept"] + counters["refused"]
            assert counters["kept"] == sum(row[FRAMES] for _, row in ledger.of(0)) > 20, "each answer is in a window"

    run(scenario())


def test_refused_rows_of_windows_are_counted_and_told_and_are_no_frames(tmp_path: Path) -> None:
    pairs = {**PROCESSING, "windows": [{"name": "pairs", "frames": 2, "features": FEATURES}]}

    async def scenario() -> None:
        async with site(tmp_path) as made:
            ledger = both_lanes(made)
            ledger.refuse_windows = error("OUTBOX_TOO_LARGE", "windows")
            await made.link.route(await made.load(onnx_slot, processing=pairs), None)
            told = 0
            while not ledger.windows:
                told += (await made.window())["window_rows_refused"]
                ledger.refuse_windows = None if ledger.turned_away else ledger.refuse_windows
            await made.link.close()
            while not made.link.windows.empty():
                told += made.link.windows.get_nowait()["window_rows_refused"]
            made.check_books()
            assert made.link.counters()["window_rows_refused"] == told == ledger.turned_away > 0
            assert len(ledger.windows) + told == len({number // 2 for number in ledger.numbers()})

    run(scenario())


def test_rows_of_windows_that_wait_for_a_full_outbox_when_the_pipeline_ends_are_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            ledger = both_lanes(made)
            ledger.refuse_windows = error("OUTBOX_FULL", "windows")
            pairs = {**PROCESSING, "windows": [{"name": "pairs", "frames": 2, "features": FEATURES}]}
            await made.link.route(await made.load(onnx_slot, processing=pairs), None)
            await made.rows(100)
            await made.link.close()
            ended = {number // 2 for number in ledger.numbers()}
            assert made.link.counters()["window_rows_refused"] == len(ended) > ledger.turned_away

    run(scenario())


def test_windows_that_the_manifest_does_not_name_are_not_worked_with(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(onnx_slot, processing=WINDOWED, window_schemas=window_schemas(WINDOWED)[:1])
            with pytest.raises(SkerryError, match="BUNDLE_PROCESSING"):
                await made.link.route(digest, None)

    run(scenario())
