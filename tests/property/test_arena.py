"""The arena under every order of events: clients and workers that die at any point of the protocol, several clients, restarts.

Server and Client are the real ones, in one process and one thread; a death is an exception at a chosen point of the worker's answer, or a
client object that is dropped with requests in flight. Whatever happens: an answer belongs to its own request, no request is answered twice,
and when all is quiet every cell can be used again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from contracts.errors import SkerryError, TransientError
from contracts.manifest import TensorSpec
from edge_agent.inference.arena import Arena
from edge_agent.inference.client import Client, Ticket
from edge_agent.inference.wire import CellState
from edge_agent.inference.worker.backends import fake
from edge_agent.inference.worker.serve import Server
from edge_agent.inference.worker.slot import Slot, Tensor

INPUT, OUTPUT = TensorSpec(name="x", dtype="f32", shape=(1, 6)), TensorSpec(name="y", dtype="f32", shape=(1, 2))
SLOT = Slot(Path("/"), Tensor("x", "<f4", (1, 6)), Tensor("y", "<f4", (1, 2)), "fake", Path("/"), {})
SEATS, CELLS = 2, 2
FAR_NS = 3600 * 10**9


class WorkerDied(BaseException):
    """Ends the simulated worker where a signal would."""


class DyingSession:
    """The healthy fake, which can be told to die in its next answer, before or after the output is written."""

    compute_is_cpu = False

    def __init__(self) -> None:
        self.die = ""

    def bind(self, input_: Any, output: Any) -> Callable[[], None]:
        def compute() -> None:
            if self.die == "before":
                raise WorkerDied
            output[...] = fake.expected(input_, output.shape)
            if self.die == "after":
                raise WorkerDied

        return compute

    def close(self) -> None:
        pass


class ArenaMachine(RuleBasedStateMachine):
    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena.for_tensors(INPUT, OUTPUT, SEATS, CELLS)
        self.clients = [self.attach(seat) for seat in range(SEATS)]
        self.session = DyingSession()
        self.server: Server | None = None
        self.values = 0
        self.start_worker()

    def attach(self, seat: int) -> Client:
        route = {**self.arena.geometry.to_dict(), "seat": seat}
        descriptors = [os.dup(number) for number in self.arena.descriptors(seat)]
        return Client(route, INPUT.model_dump(), OUTPUT.model_dump(), (descriptors[0], descriptors[1], descriptors[2]))

    @precondition(lambda self: self.server is None)
    @rule()
    def start_worker(self) -> None:
        self.session = DyingSession()
        self.server = Server(SLOT, self.arena.memfd, self.arena.request_fd, self.arena.response_fds)
        self.server.bind(self.session)
        self.server.take_over()

    @rule(target=tickets, seat=st.integers(0, SEATS - 1), expired=st.booleans())
    def submit(self, seat: int, expired: bool) -> Any:
        self.values += 1
        values = np.full((1, 6), self.values, np.float32)
        client = self.clients[seat]
        try:
            ticket = client.submit(values, time.monotonic_ns() + (-1 if expired else FAR_NS))
        except TransientError as busy:
            self.check(busy, "ARENA_BUSY")
            assert not any(self.state(index) == CellState.FREE for index in self.arena.geometry.seat(seat))
            return multiple()
        return seat, client, ticket, values

    @precondition(lambda self: self.server is not None)
    @rule(die=st.sampled_from(["", "", "before", "after"]))
    def work(self, die: str) -> None:
        assert self.server is not None
        self.session.die = die
        try:
            self.server.step()
        except WorkerDied:
            self.server = None
        self.session.die = ""

    @rule(entry=consumes(tickets))
    def collect(self, entry: tuple[int, Client, Ticket, Any]) -> None:
        seat, client, ticket, values = entry
        if client is not self.clients[seat]:
            return  # its client died; nobody asks any more
        impatient = Ticket(ticket.index, ticket.seq, 0)  # look once, do not wait
        try:
            answer = client.collect(impatient)
        except SkerryError as failed:
            self.check(failed, "ARENA_TIMEOUT", "WORKER_CRASH")
            return
        assert np.allclose(answer.output, fake.expected(values, (1, 2)))

    @rule(seat=st.integers(0, SEATS - 1))
    def client_dies(self, seat: int) -> None:
        """Its mapping and descriptors go with it; what lies in its cells stays."""
        self.clients[seat].close()
        self.clients[seat] = self.attach(seat)

    @staticmethod
    def check(seen: SkerryError, *codes: str) -> None:
        assert seen.code in codes

    def state(self, index: int) -> int:
        return self.clients[0]._cell(index).state

    @invariant()
    def the_agent_counts_what_is_occupied(self) -> None:
        states = [self.state(index) for index in range(self.arena.geometry.cells)]
        assert self.arena.occupied() == sum(state in (CellState.REQUESTED, CellState.BUSY) for state in states)

    def teardown(self) -> None:
        """All is quiet: every cell of every seat serves again, with the right answer."""
        if self.server is None:
            self.start_worker()
        assert self.server is not None
        self.server.step()
        for seat in range(SEATS):
            self.client_dies(seat)
            self.use_all(self.clients[seat])
        for client in self.clients:
            client.close()
        self.server = None
        self.arena.close()

    def use_all(self, client: Client) -> None:
        assert self.server is not None
        tickets = [(client.submit(np.full((1, 6), k, np.float32), time.monotonic_ns() + FAR_NS), k) for k in range(CELLS)]
        self.server.step()
        for ticket, k in tickets:
            assert client.collect(ticket).output[0, 0] == 3 * k


TestArena = ArenaMachine.TestCase
TestArena.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
