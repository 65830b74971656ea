"""What the loops tell each other, inside one process: the newest order, windows, deaths, and who should wake."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from contracts.assignment import Assignment
from edge_agent.core.health import Observed
from edge_agent.core.orders import Order
from edge_agent.core.windows import Summary, summary_of
from edge_agent.ports import WorkerDeath

MAX_SUMMARIES = 64


class Exchange:
    def __init__(self) -> None:
        self.order: Order | None = None
        self.assignment: Assignment | None = None
        self.deaths: deque[WorkerDeath] = deque(maxlen=64)
        self.summaries: deque[Summary] = deque(maxlen=MAX_SUMMARIES)  # not yet reported, oldest first
        self.update_wanted = asyncio.Event()
        self.poll_wanted = asyncio.Event()
        self.report_wanted = asyncio.Event()
        self.windows_came = asyncio.Event()
        self.passes: dict[str, int] = {}
        self.deaths_seen = 0
        self._observed: dict[str, Observed] = {}

    # -- orders

    def take_assignment(self, assignment: Assignment, order: Order | None) -> None:
        self.assignment = assignment
        if order is not None and order != self.order:
            self.order = order
            self.update_wanted.set()

    @property
    def poll_interval_s(self) -> float:
        return self.assignment.poll_interval_s if self.assignment else 5.0

    @property
    def report_window_s(self) -> float:
        return self.assignment.report_window_s if self.assignment else 5.0

    def ack_keys(self) -> dict[str, bytes]:
        keys = self.assignment.ack_keys if self.assignment else ()
        return {key.key_id: bytes.fromhex(key.public_key) for key in keys}

    # -- windows

    def observe(self, digest: str) -> None:
        """Begin to sum `digest`'s windows for a judgement of its probation."""
        self._observed = {digest: Observed()}

    def observes(self, digest: str) -> bool:
        return digest in self._observed

    def observed(self, digest: str) -> Observed:
        return self._observed.get(digest, Observed())

    def take_window(self, window: Mapping[str, Any]) -> None:
        digest = window["bundle_digest"]
        if digest in self._observed:
            self._observed[digest] = self._observed[digest].plus(window)
        if self.summaries and self.summaries[-1].fits(window):
            self.summaries[-1] = self.summaries[-1].plus(window)
        else:
            self.summaries.append(summary_of(window))
        self.windows_came.set()

    def take_summaries(self) -> list[Summary]:
        taken = [summary for summary in self.summaries if not summary.blank]
        self.summaries.clear()
        return taken

    def give_back(self, summaries: list[Summary]) -> None:
        """What could not be kept; it is taken again before what has come since."""
        self.summaries.extendleft(reversed(summaries))

    # -- life

    def take_death(self, death: WorkerDeath) -> None:
        self.deaths.append(death)
        self.update_wanted.set()

    def completed(self, loop: str) -> None:
        """A pass of that loop is through; the watchdog is fed from this alone."""
        self.passes[loop] = self.passes.get(loop, 0) + 1

    def wake_all(self) -> None:
        for event in (self.update_wanted, self.poll_wanted, self.report_wanted, self.windows_came):
            event.set()
