"""A whole site for tests, as `./dev demo` makes it: every program under the local supervisor, by the story's own steps.

Without `steps` it begins where the demo's first act ends: v1 confirmed on all three devices, about 40 seconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from deploy.local.ports import Ports
from deploy.local.progress import Progress
from deploy.local.record import Record
from deploy.local.site import LocalSite
from deploy.local.steps import TRY_IT, Step
from deploy.local.story import Story
from deploy.local.supervisor import Supervisor
from program.clock import SystemClock


@contextlib.asynccontextmanager
async def local_site(port_base: int, seed: int, steps: Sequence[Step] = TRY_IT) -> AsyncIterator[Story]:
    """Four ports from `port_base` on. When the block fails its folder, with all logs, is kept and named."""
    root, clock = Path(tempfile.mkdtemp(prefix="skerry-site-")), SystemClock()  # not pytest's folder: other uids must reach it
    site = LocalSite(root, Ports.from_base(port_base), as_root=os.geteuid() == 0)
    progress, picture = Progress(clock), root / "picture.html"
    try:
        async with Supervisor(root, clock) as supervisor, Story(site, supervisor, clock, progress, Record(), seed, picture) as story:
            for step in steps:
                await step(story)
            yield story
    except BaseException:
        print(f"logs and state stay in {root}")
        raise
    shutil.rmtree(root, ignore_errors=True)
