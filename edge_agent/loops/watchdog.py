"""Feeds the supervisor's watchdog, only after the update loop has completed a pass since the last time."""

from __future__ import annotations

import asyncio

from edge_agent.loops.exchange import Exchange
from program import notify
from program.clock import Clock

WATCHED = "update"


async def run(exchange: Exchange, clock: Clock, stop: asyncio.Event, interval_s: float | None) -> None:
    """`interval_s`: half of the supervisor's limit, None when it sets none."""
    if interval_s is None:
        return
    seen = -1
    while not await clock.wait(stop, min(interval_s, 5.0)):
        passes = exchange.passes.get(WATCHED, 0)
        if passes != seen:
            notify.watchdog()
        seen = passes
