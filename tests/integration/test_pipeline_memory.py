"""Frames as large as a camera's through a real pipeline: their memory is kept for the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.integration.proc_stat import faults
from tests.integration.test_pipeline_process import Site, run, site
from tests.simulators.bundles import SIDE, fake_slot

SHAPE = (480, 640, 3)
PROCESSING = {
    "pre": [
        {"op": "resize", "height": 224, "width": 224, "method": "bilinear"},
        {"op": "grayscale"},
        {"op": "resize", "height": SIDE, "width": SIDE, "method": "box"},
        {"op": "standardize"},
    ],
    "post": [{"op": "softmax"}, {"op": "top1"}],
}
WARM_UP, FRAMES = 10, 30
PAGES = SHAPE[0] * SHAPE[1] * SHAPE[2] // 4096


def test_the_memory_of_a_frame_is_kept_for_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            fill(made)
            await made.link.route(await made.load(fake_slot, processing=PROCESSING), None)
            await made.rows(WARM_UP)
            pid, rows = made.link.pid(), made.ledger.count()
            assert pid
            before = faults(pid)
            await made.rows(rows + FRAMES)
            assert faults(pid) - before < (made.ledger.count() - rows) * PAGES / 2, "pages were given back and faulted in again"

    run(scenario())


def fill(made: Site) -> None:
    for path in (made.folder / "frames").iterdir():
        Image.fromarray(np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8)).save(path, compress_level=0)
