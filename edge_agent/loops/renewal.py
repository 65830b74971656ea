"""Renews certificate and keys when half of the certificate's life is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from contracts.errors import SkerryError
from edge_agent.adapters.identity import Identity
from edge_agent.core.backoff import Backoff, jittered_s
from program.clock import Clock
from program.log import Log

LOOK_S = 600.0


async def run(
    identity: Callable[[], Identity],
    renew: Callable[[], Identity],
    clock: Clock,
    stop: asyncio.Event,
    *,
    renewed: Callable[[Identity], None],
    share: Callable[[], float],
) -> None:
    """`renew` blocks and returns the new identity; `renewed` hands it to those who use keys."""
    log, backoff, failures = Log("renewal"), Backoff(base_s=5, cap_s=LOOK_S), 0
    delay_s = 0.0
    while not await clock.wait(stop, delay_s):
        delay_s = jittered_s(LOOK_S, share())
        if not identity().due(clock.utc()):
            continue
        try:
            renewed(await asyncio.to_thread(renew))
            failures = 0
            log("certificate_renewed", not_after=identity().not_after.isoformat())
        except SkerryError as failed:
            failures += 1
            delay_s = backoff.delay_s(failures, share())
            (log if failures == 1 else log.debug)("renewal_failed", code=failed.code, detail=str(failed))
