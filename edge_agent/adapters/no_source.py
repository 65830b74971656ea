"""The `Pipeline` of an agent without a source: nothing is started, there are no frames. What was counted before is still told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.pipeline.counters import Count, Counters


class NoPipeline:
    def __init__(self, counters: Path, accepted_rows: Callable[[], int]) -> None:
        """`counters`: the file that a pipeline kept, if one ever ran; `accepted_rows`: the ledger's, of lane live."""
        self.windows: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.refusals: dict[str, int] = {}
        self._file, self._accepted_rows = counters, accepted_rows

    async def route(self, live: str | None, shadow: str | None) -> int:
        return 0

    def pid(self) -> int | None:
        return None

    def counters(self) -> dict[str, int]:
        """No pipeline runs, so every frame without an accepted row was refused, or its row stays here."""
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return {"frames": 0, "accepted_rows": 0, "refused": 0, "kept": 0, "pending": 0, "window_rows_refused": 0}
        counters = Counters(descriptor)
        try:
            frames, accepted = counters.get(Count.FRAMES), self._accepted_rows() - counters.get(Count.LEDGER_BASE)
            kept, windows = counters.get(Count.KEPT), counters.get(Count.WINDOW_ROWS_REFUSED)
        finally:
            counters.close()
            os.close(descriptor)
        return {
            "frames": frames,
            "accepted_rows": accepted,
            "refused": frames - accepted - kept,
            "kept": kept,
            "pending": 0,
            "window_rows_refused": windows,
        }

    async def watch(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        return None
