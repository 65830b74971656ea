"""A candidate beside the live model: which requests it answers (canary), which are copied to it (shadow), and what came of them.

Everything here runs in the event loop; the shadow's thread tells by `compared`, called there. What is counted goes to the agent in windows,
each of one live model and one candidate, so that nothing is ever counted for another.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from contracts.errors import SkerryError
from edge_agent.inference.client import Answer, Array
from edge_agent.inference.oip.canary import chosen
from edge_agent.inference.oip.models import Model, Models, Pair
from edge_agent.inference.oip.seat import Seat
from edge_agent.inference.oip.shadow import COPY_S, Copy, Outcome, Shadow
from edge_agent.inference.oip.statistics import TrialCounts
from edge_agent.inference.oip.status import RETRY_ON_A_FRESH_LIST, status_of
from edge_agent.pipeline.windows import Window

FIRST_OF_SERVER = 500  # HTTP: below it the fault is the request's
NOT_FINITE = "WORKER_NOT_FINITE"
_UNCOUNTED = RETRY_ON_A_FRESH_LIST | {NOT_FINITE}  # asked again; counted with its answer


class Shares(NamedTuple):
    shadow: float = 0.0
    canary: float = 0.0


NOTHING = Shares()


class Trial:
    def __init__(
        self, models: Models, shares: Shares = NOTHING, shadow: Shadow | None = None, draw: Callable[[], float] = random.random
    ) -> None:
        """`draw` is uniform in [0, 1)."""
        self.counts: dict[tuple[str, str], TrialCounts] = {}
        self._models, self._shares, self._shadow, self._draw = models, shares, shadow, draw
        self._windows: dict[tuple[str, str], Window] = {}

    # -- on the path of a request

    def canary(self, live: Model, request_id: str) -> Model | None:
        """The candidate, where it is to answer this request: it must take and give the same tensors under the same name."""
        candidate = self._beside(live)
        if candidate is None or not chosen(request_id, candidate.digest, self._shares.canary):
            return None
        alike = (candidate.name, candidate.input, candidate.output) == (live.name, live.input, live.output)
        return candidate if alike else None

    def answered(self, model: Model, values: Array, answer: Answer) -> None:
        """`values`: the input. What is not finite and was asked so says nothing about the model."""
        pair = self._models.pair
        if not answer.finite and not np.isfinite(values).all():
            return
        if _is(pair.live, model):
            window = self._window(pair)
            window.frames += 1
            window.answered(answer.compute_us)
            if not answer.finite:
                window.not_finite += 1
                window.refuse(NOT_FINITE)
        elif _is(pair.candidate, model):
            self._window(pair).shadow_answered(answer.compute_us)

    def refused(self, model: Model, refused: SkerryError, hurried: bool) -> None:
        """What is wrong with the request, or only with the deadline that its caller set (`hurried`), says nothing about the model."""
        callers = status_of(refused).http < FIRST_OF_SERVER or (hurried and refused.code == "ARENA_TIMEOUT")
        if _is(self._models.pair.live, model) and not callers and refused.code not in _UNCOUNTED:
            window = self._window(self._models.pair)
            window.frames += 1
            window.refuse(refused.code)

    def copy(self, live: Model, seat: Seat, values: Array, answer: Answer) -> None:
        """Copy what the live model was asked on its seat and has answered, if it is drawn. `values` and the answer's output are views."""
        candidate = self._beside(live)
        if self._shadow is None or candidate is None or candidate.input != live.input or self._draw() >= self._shares.shadow:
            return
        counts = self._counts_of(candidate)
        if (why := _no_copy(seat, self._shadow, values.nbytes)) is not None:
            counts.shed[why] += 1
            return
        deadline_ns = time.monotonic_ns() + int(COPY_S * 1e9)
        self._shadow.put(Copy(live, candidate, seat.route, values.copy(), answer.output.copy(), deadline_ns))
        counts.sent += 1

    def canary_answered(self, candidate: Model) -> None:
        self._counts_of(candidate).canary_answered += 1

    def canary_failed(self, candidate: Model) -> None:
        self._counts_of(candidate).canary_failed += 1

    # -- off the path

    def compared(self, copy: Copy, outcome: Outcome) -> None:
        counts = self._counts_of(copy.candidate)
        if outcome.code:
            counts.shed[outcome.code] += 1
            if outcome.verdict is None:
                return
        window = self._window(Pair(copy.live, copy.candidate))
        if not outcome.code:
            window.shadow_answered(outcome.compute_us)
        if outcome.verdict is not None:
            window.pair(*outcome.verdict)
            counts.compared += 1
            counts.agreed += outcome.verdict.agreed

    def windows(self) -> list[dict[str, Any]]:
        """`window` messages of contracts/oip.py: what has come together since the last call."""
        windows, self._windows = self._windows, {}
        now_s = time.monotonic()
        return [window.message(now_s, 0, {}) for window in windows.values()]

    # -- inside

    def _beside(self, model: Model) -> Model | None:
        pair = self._models.pair
        return pair.candidate if _is(pair.live, model) else None

    def _window(self, pair: Pair) -> Window:
        key = pair.live.digest if pair.live else "", pair.candidate.digest if pair.candidate else ""
        if key not in self._windows:
            self._windows[key] = Window(time.monotonic(), *key)
        return self._windows[key]

    def _counts_of(self, candidate: Model) -> TrialCounts:
        return self.counts.setdefault((candidate.name, candidate.version), TrialCounts())


def _no_copy(seat: Seat, shadow: Shadow, nbytes: int) -> str | None:
    """Under pressure copies are the first that go."""
    if seat.crowded:
        return "CALLERS_WAIT"
    return None if shadow.room(nbytes) else "QUEUE_FULL"


def _is(one: Model | None, other: Model) -> bool:
    return one is not None and one.digest == other.digest
