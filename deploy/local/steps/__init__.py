"""The story, a step per file. Each waits for events with a deadline and leaves proofs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from deploy.local.steps import setup
from deploy.local.story import Story

Step = Callable[[Story], Awaitable[None]]

STORY: tuple[Step, ...] = (setup.run,)
TRY_IT: tuple[Step, ...] = (setup.run,)
