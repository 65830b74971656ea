"""An arena's seat and the agent's attach socket in memory, for the front: answers come when the test says so."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from contracts.errors import SkerryError, error
from edge_agent.inference import wire
from edge_agent.inference.client import Answer, Cell, Ticket

INPUT = {"name": "x", "dtype": "f32", "shape": [1, 4]}
OUTPUT = {"name": "y", "dtype": "f32", "shape": [1, 2]}


class SimSeatClient:
    """The model answers (sum, 0). `settle` answers the oldest request that waits; with `at_once` each is answered when it comes."""

    def __init__(self, cells: int = 2, at_once: bool = False) -> None:
        self.route: dict[str, Any] = {}
        self.at_once, self.finite, self.detached, self.closed = at_once, True, False, False
        self.failure: SkerryError | None = None  # instead of an answer
        self.asked: list[str] = []  # the priority of each `infer`
        self.hold_up = threading.Event()  # `infer` waits for it, 5 s at most
        self.hold_up.set()
        self.cancelled: list[int] = []  # numbers of requests that were released before their answer
        self._fd, self._connection = os.eventfd(0, os.EFD_NONBLOCK), os.pipe()
        self._free = [self._cell(number) for number in range(cells)]
        self._held: dict[int, Cell] = {}
        self._waiting: list[Ticket] = []
        self._answered: set[Ticket] = set()
        self._seq = 0

    @staticmethod
    def _cell(number: int) -> Cell:
        return Cell(number, np.zeros((1, 4), "<f4"), np.zeros((1, 2), "<f4"))

    # -- the test's side

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def free(self) -> int:
        return len(self._free)

    def settle(self) -> None:
        ticket = self._waiting.pop(0)
        cell = self._held[ticket.cell_no]
        cell.output[...] = [[cell.input.sum(), 0]]
        self._answered.add(ticket)
        wire.signal(self._fd)

    def hang_up(self) -> None:
        self.detached = True
        os.close(self._connection[1])

    # -- the front's side

    def infer(self, values: Any, timeout_s: float, priority: str = "high") -> Answer:
        """Of a thread that waits."""
        self.asked.append(priority)
        self.hold_up.wait(5)
        if self.failure:
            raise self.failure
        return Answer(np.array([[values.sum(), 0]], "<f4"), self.finite, 40.0, 5.0)

    def announce(self) -> None:
        """Our model needs no waking."""

    def reserve(self) -> Cell:
        if self.detached:
            raise error("ARENA_DETACHED")
        if not self._free:
            raise error("ARENA_BUSY")
        cell = self._free.pop()
        self._held[cell.cell_no] = cell
        return cell

    def commit(self, cell: Cell, deadline_ns: int, priority: str = "high") -> Ticket:
        self._seq += 1
        ticket = Ticket(cell.cell_no, self._seq, deadline_ns)
        self._waiting.append(ticket)
        if self.at_once:
            self.settle()
        return ticket

    def hold(self, ticket: Ticket) -> Answer:
        if ticket not in self._answered:
            raise error("ARENA_DETACHED")
        if self.failure:
            raise self.failure
        return Answer(self._held[ticket.cell_no].output, self.finite, 20.0, 5.0)

    def release(self, held: Cell | Ticket) -> None:
        if isinstance(held, Ticket) and held in self._waiting:
            self._waiting.remove(held)
            self.cancelled.append(held.seq)
        cell = self._held.pop(held.cell_no, None)
        if cell is not None:
            self._free.append(cell)

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        wire.drain(self._fd)

    def look(self, ticket: Ticket) -> bool:
        return self.ready(ticket)

    def ready(self, ticket: Ticket) -> bool:
        return ticket in self._answered or self.detached

    def connection_fileno(self) -> int:
        return self._connection[0]

    def close(self) -> None:
        self.closed = True
        os.close(self._fd)


def listed(name: str = "tiny", number: int = 1, live: bool = True, state: str = "ready", candidate: bool = False) -> dict[str, Any]:
    digest = f"{name}-{number}"
    return {
        "name": name,
        "number": number,
        "digest": digest,
        "state": state,
        "live": live,
        "candidate": candidate,
        "backend": "fake",
        "input": INPUT,
        "output": OUTPUT,
    }


class SimArenas:
    def __init__(self, *models: dict[str, Any], cells: int = 2, at_once: bool = True, seats: int = 8) -> None:
        """`seats`: of each model."""
        self.loaded: list[dict[str, Any]] = list(models)
        self.clients: dict[str, list[SimSeatClient]] = {}
        self.asked = 0
        self._cells, self._at_once, self.seats = cells, at_once, seats

    def models(self) -> Sequence[Mapping[str, Any]]:
        self.asked += 1
        return list(self.loaded)

    def attach(self, digest: str) -> SimSeatClient:
        if digest not in [model["digest"] for model in self.loaded]:
            raise error("ARENA_MODEL", digest)
        if sum(not client.closed for client in self.clients.get(digest, [])) >= self.seats:
            raise error("ARENA_SEATS", digest)
        client = SimSeatClient(self._cells, self._at_once)
        self.clients.setdefault(digest, []).append(client)
        return client
