"""The poll: asks the director what this device shall run. It is the heartbeat, too.

The server says how often; a wake hint by MQTT makes it sooner, but not within a second of the last poll and not while we back off:
whoever holds the broker must not make a fleet storm its control plane. Retry-After wins over our own delay. Whatever goes wrong,
the device stays on what runs: trust errors alarm and are reported, once per code, and the next poll comes all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from contracts.assignment import Assignment
from contracts.errors import RejectedError, SkerryError, TransientError
from edge_agent.core.backoff import Backoff, jittered_s
from edge_agent.core.orders import order_of
from edge_agent.loops.exchange import Exchange
from program.clock import Clock
from program.log import Log

HINT_PAUSE_S = 1.0  # the soonest that a hint brings the next poll
FIRST_CONTACT_S = 1.0  # the first poll after a start is spread over this


class PollLoop:
    def __init__(
        self,
        device: str,
        poll: Callable[[], Assignment],
        exchange: Exchange,
        clock: Clock,
        *,
        share: Callable[[], float],
        backoff: Backoff,
        note: Callable[[str, str], None],
        on_assignment: Callable[[], None] = lambda: None,
    ) -> None:
        """`poll` blocks; `note(code, detail)` reports an event; `on_assignment` is called after a new one was taken."""
        self._device, self._poll, self._exchange, self._clock = device, poll, exchange, clock
        self._share, self._backoff, self._note, self._on_assignment = share, backoff, note, on_assignment
        self._failures = 0
        self._taken: Assignment | None = None
        self.trouble = ""  # code of the last failure, "" after a success
        self._log = Log("poll", device_id=device)

    async def run(self, stop: asyncio.Event) -> None:
        await self._clock.wait(self._exchange.poll_wanted, FIRST_CONTACT_S * self._share())
        while not stop.is_set():
            self._exchange.poll_wanted.clear()
            delay_s = await self._once()
            self._exchange.completed("poll")
            due_s = self._clock.mono() + delay_s
            if not await self._clock.wait(stop, delay_s if self.trouble else min(HINT_PAUSE_S, delay_s)):
                await self._clock.wait(self._exchange.poll_wanted, max(0.0, due_s - self._clock.mono()))

    async def _once(self) -> float:
        """Seconds until the next poll."""
        try:
            assignment = await asyncio.to_thread(self._poll)
            self._take(assignment)
        except SkerryError as failed:
            return self._failed(failed)
        if self.trouble:
            self._log("poll_recovered", after=self._failures)
        self._failures, self.trouble = 0, ""
        return jittered_s(self._exchange.poll_interval_s, self._share())

    def _take(self, assignment: Assignment) -> None:
        if assignment == self._taken:
            return
        try:
            order = order_of(assignment, self._device)  # another device's is refused at each poll, for as long as it is there
        except RejectedError:
            self._taken = assignment
            self._exchange.take_assignment(assignment, None)
            raise
        self._taken = assignment
        self._log("assignment", generation=order.generation, kind=order.kind, execution_id=order.execution, activate=order.activate)
        self._exchange.take_assignment(assignment, order)
        self._on_assignment()

    def _failed(self, failed: SkerryError) -> float:
        self._failures += 1
        transient = isinstance(failed, TransientError)
        if failed.code != self.trouble:
            (self._log if transient else self._log.alarm)("poll_failed", code=failed.code, detail=str(failed), remedy=failed.remedy)
            if not transient:
                self._note(failed.code, str(failed))
        self.trouble = failed.code
        retry_after_s = failed.retry_after_s if isinstance(failed, TransientError) else None
        return self._backoff.delay_s(self._failures, self._share(), retry_after_s)
