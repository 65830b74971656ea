"""Rows of windows that are as large as a bundle can make them: they leave in requests that fit, and the pipeline lives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from contracts.features import FRAME_COLUMNS
from contracts.manifest import Manifest
from contracts.pipeline import MAX_MESSAGE_BYTES
from processing.answers import MAX_LISTED
from processing.windows import MAX_FEATURES
from tests.integration.test_feature_windows import both_lanes
from tests.integration.test_pipeline_process import run, site
from tests.simulators.bundles import write_slot

CELLS = 100  # the model is an echo: planes of "nothing", "part", right, down, width, height, from the pixels
INPUT, OUTPUT = (1, 1, 6, CELLS), (1, 6 * CELLS)
NAME = "p" * 32
COLUMNS = [*(column.model_dump() for column in FRAME_COLUMNS), {"name": "boxes", "type": "utf8"}]
LISTS = [{"name": f"boxes_{number}", "how": "last", "of": "boxes"} for number in range(MAX_FEATURES)]
PROCESSING = {
    "pre": [{"op": "resize", "height": 6, "width": CELLS, "method": "bilinear"}, {"op": "scale", "factor": 0.01}],
    "post": [{"op": "grid_boxes", "classes": [NAME], "rows": 10, "columns": 10}, {"op": "boxes", "most": MAX_LISTED}],
    "windows": [{"name": "pairs", "frames": 2, "features": LISTS}],
}


def boxes_slot(root: Path) -> tuple[str, Path, Manifest]:
    golden = np.random.default_rng(3).random((8, *INPUT[1:]), np.float32)
    changes: dict[str, Any] = {
        "processing": PROCESSING, "columns": COLUMNS,
        "input": {"name": "x", "dtype": "f32", "shape": INPUT}, "output": {"name": "grid", "dtype": "f32", "shape": OUTPUT},
    }  # fmt: skip
    return write_slot(root, "fake", "model.json", json.dumps({"faults": []}).encode(), (golden, golden.reshape(8, -1)), changes)


def test_rows_of_windows_that_fill_a_message_do_not_end_the_pipeline(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            ledger = both_lanes(made)
            await made.link.route(await made.load(boxes_slot), None)
            while len(ledger.windows) < 25:
                assert "PIPELINE_ENDED" not in (await made.window())["refusals"]
            await made.link.close()
            made.check_books()
            rows = [row for _, _, row in ledger.windows]
            of_frames = {row[0]: row[3] for _, row in ledger.rows}
            assert sum(len(row[-1]) * MAX_FEATURES for row in rows[:10]) > 2 * MAX_MESSAGE_BYTES, "ten of them are no message"
            assert all(row[-MAX_FEATURES:] == [of_frames[row[0]]] * MAX_FEATURES for row in rows)
            assert len(rows) + made.link.counters()["window_rows_refused"] == len({number // 2 for number in of_frames})

    run(scenario())
