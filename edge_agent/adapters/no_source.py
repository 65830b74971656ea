"""The `Pipeline` of an agent without a source: nothing is started, there are no frames."""

from __future__ import annotations

import asyncio
from typing import Any


class NoPipeline:
    def __init__(self) -> None:
        self.windows: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def route(self, live: str | None, shadow: str | None) -> int:
        return 0

    def pid(self) -> int | None:
        return None

    def counters(self) -> dict[str, int]:
        return {"frames": 0, "accepted_rows": 0, "refused": 0, "pending": 0}

    async def watch(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        return None
