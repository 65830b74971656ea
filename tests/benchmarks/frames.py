"""What a camera's frame costs the pipeline: `python -m tests.benchmarks.frames`. Colour pictures of 640 x 480 from a folder, as PNG."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.integration.proc_stat import cpu_s, faults
from tests.integration.test_pipeline_memory import PROCESSING, SHAPE, fill
from tests.integration.test_pipeline_process import site
from tests.simulators.bundles import fake_slot

WARM_UP, FRAMES = 20, 200


async def measure(folder: Path) -> str:
    async with site(folder) as made:
        fill(made)
        await made.link.route(await made.load(fake_slot, processing=PROCESSING), None)
        await made.rows(WARM_UP)
        pid = made.link.pid()
        assert pid
        before = made.ledger.count(), faults(pid), cpu_s(pid)
        await made.rows(before[0] + FRAMES)
        frames = made.ledger.count() - before[0]
        pages, ms = (faults(pid) - before[1]) / frames, (cpu_s(pid) - before[2]) / frames * 1e3
        return f"{SHAPE}: {ms:.1f} ms of processor time and {pages:.0f} page faults a frame"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(asyncio.run(measure(Path(name))))
