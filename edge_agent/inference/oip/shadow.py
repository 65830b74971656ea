"""Copies of answered requests on their way to the candidate: a bounded queue, and the thread that asks and compares.

The path of an answer copies and puts, and waits for nothing. What finds no room, comes to a busy model or comes too late is shed. The
thread has a seat of its own, so that a copy never takes a cell from a caller, and gives it back when nothing came for a while, or hands it
over to the callers of a candidate that has become the live model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import NamedTuple

from contracts.errors import SkerryError, error
from edge_agent.inference.client import FAULTS_OF_A_MODEL, LOW, Answer, Array
from edge_agent.inference.oip.compare import NO_ANSWER, Comparison, Route, Verdict
from edge_agent.inference.oip.models import Model
from edge_agent.inference.oip.ports import SeatClient

MAX_COPIES, MAX_BYTES = 8, 16 * 1024**2  # that wait; one may wait whatever its size
COPY_S = 1.0  # a copy that has no answer so long after the caller had one is given up
REST_S = 0.005  # after each: to wake the thread is what costs the event loop most, so it looks at most so often
IDLE_S = 2.0  # without a copy, then the seat is given back


class Copy(NamedTuple):
    live: Model
    candidate: Model
    route: Route  # of the live model
    input: Array
    output: Array  # the live model's
    deadline_ns: int


class Outcome(NamedTuple):
    code: str = ""  # why it was shed, or why the candidate gave no answer
    compute_us: float = 0.0
    verdict: Verdict | None = None


class Shadow:
    def __init__(self, attach: Callable[[str], SeatClient], tell: Callable[[Copy, Outcome], object]) -> None:
        """`tell` is called in the thread of `run`."""
        self._attach, self._tell = attach, tell
        self._queue: SimpleQueue[Copy | None] = SimpleQueue()
        self._closing, self._seat_lock = Event(), Lock()
        self._client: SeatClient | None = None
        self._of = ""  # the digest that the client is of
        self._comparison: tuple[tuple[str, str], Comparison] | None = None

    def room(self, nbytes: int) -> bool:
        return self._queue.qsize() < max(1, min(MAX_COPIES, MAX_BYTES // max(1, nbytes)))

    def put(self, copy: Copy) -> None:
        self._queue.put(copy)

    def hand_over(self, digest: str) -> SeatClient | None:
        """The seat of this model, if there is one: it is the caller's from now on. Blocks while a copy is asked on it, COPY_S at most."""
        with self._seat_lock:
            if self._client is None or self._of != digest:
                return None
            client, self._client = self._client, None
            return client

    def close(self) -> None:
        """`run` ends with what it is at; what waits is dropped."""
        self._closing.set()
        self._queue.put(None)

    # -- the thread

    def run(self) -> None:
        """Blocks until `close`."""
        while True:
            try:
                copy = self._queue.get(timeout=IDLE_S if self._client is not None else None)
            except Empty:
                self._leave()
                continue
            if copy is None or self._closing.is_set():
                self._leave()
                return
            self._tell(copy, self._ask(copy))
            self._closing.wait(REST_S)

    def _ask(self, copy: Copy) -> Outcome:
        try:
            answer, route = self._answer(copy)
        except SkerryError as shed:
            return Outcome(shed.code, verdict=NO_ANSWER if shed.code in FAULTS_OF_A_MODEL else None)
        verdict = self._compare(copy, route)(copy.output, answer.output) if answer.finite else NO_ANSWER
        return Outcome("", answer.compute_us, verdict)

    def _answer(self, copy: Copy) -> tuple[Answer, Route]:
        with self._seat_lock:
            client = self._seat(copy.candidate.digest)
            left_s = (copy.deadline_ns - time.monotonic_ns()) / 1e9
            if left_s <= 0:
                raise error("ARENA_TIMEOUT")
            return client.infer(copy.input, left_s, LOW), client.route

    def _compare(self, copy: Copy, route: Route) -> Comparison:
        key = copy.live.digest, copy.candidate.digest
        if self._comparison is None or self._comparison[0] != key:
            self._comparison = key, Comparison(copy.route, route)
        return self._comparison[1]

    def _seat(self, digest: str) -> SeatClient:
        if self._client is None or self._of != digest or self._client.detached:
            self._close()
            self._client, self._of = self._attach(digest), digest
        return self._client

    def _leave(self) -> None:
        with self._seat_lock:
            self._close()

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
