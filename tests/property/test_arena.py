"""The arena under every order of events: clients and workers that die at any point of the protocol, several clients, restarts.

Server, Client and Seats are the real ones, in one process and one thread; a death is an exception at a chosen point of the worker's answer,
or a client object that is dropped with cells reserved, requests in flight, answers held. Seat 0 is taken over as it is, as a restarted
pipeline does; the others are leased and settle first. Whatever happens: an answer belongs to its own request, no request is answered twice,
no seat is leased while the worker has anything of it, and when all is quiet every seat and every cell can be used again.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.errors import SkerryError
from contracts.manifest import TensorSpec
from edge_agent.inference import wire
from edge_agent.inference.arena import Arena
from edge_agent.inference.client import HIGH, LOW, Cell, Client, Ticket
from edge_agent.inference.seats import Seats
from edge_agent.inference.wire import CellState
from edge_agent.inference.worker.backends import fake
from edge_agent.inference.worker.serve import Server
from edge_agent.inference.worker.slot import Slot, Tensor

INPUT, OUTPUT = TensorSpec(name="x", dtype="f32", shape=(1, 6)), TensorSpec(name="y", dtype="f32", shape=(1, 2))
SLOT = Slot(Path("/"), Tensor("x", "<f4", (1, 6)), Tensor("y", "<f4", (1, 2)), "fake", Path("/"), {}, {})
SEATS, CELLS, QUEUE = 3, 2, 5
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


class Descriptors:
    """An event loop's readers, called when the test says so."""

    def __init__(self) -> None:
        self.readers: dict[int, tuple[Callable[[int], None], int]] = {}

    def add(self, descriptor: int, call: Callable[[int], None], argument: int) -> None:
        self.readers[descriptor] = (call, argument)

    def deliver(self) -> None:
        for descriptor in select.select(list(self.readers), [], [], 0)[0]:
            call, argument = self.readers[descriptor]
            call(argument)


class ArenaMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena.for_tensors(INPUT, OUTPUT, SEATS, CELLS)
        self.loop = Descriptors()
        self.seats = Seats(self.arena, 1, self.loop.add, self.loop.readers.pop)
        self.clients = {0: self.attach(0)}
        self.asked: list[tuple[int, Ticket, Any]] = []  # seat, ticket, values
        self.cells: list[tuple[int, Cell]] = []  # reserved
        self.kept: list[tuple[int, Ticket, Any, Any]] = []  # held answers: seat, ticket, view, what it must be
        self.groups: tuple[list[Any], ...] = (self.asked, self.cells, self.kept)
        self.session = DyingSession()
        self.server: Server | None = None
        self.values = 0
        self.start_worker()

    def attach(self, seat: int) -> Client:
        route = {**self.arena.geometry.to_dict(), "seat": seat, "queue_limit": QUEUE}
        memfd, request_fd, response_fd = (os.dup(number) for number in self.arena.descriptors(seat))
        return Client(route, INPUT.model_dump(), OUTPUT.model_dump(), (memfd, request_fd, response_fd))

    @precondition(lambda self: self.server is None)
    @rule()
    def start_worker(self) -> None:
        self.session = DyingSession()
        self.server = Server(SLOT, self.arena.memfd, self.arena.page_fd, self.arena.request_fd, self.arena.response_fds)
        self.server.bind(self.session)
        self.server.take_over()

    @rule()
    def lease(self) -> None:
        try:
            seat = self.seats.lease()
        except SkerryError as full:
            self.check(full, "ARENA_SEATS")
            assert len(self.clients) + self.seats.counts()["settling"] == SEATS
            return
        assert seat not in self.clients
        assert {self.state(index) for index in self.arena.geometry.seat(seat)} == {CellState.FREE}
        self.clients[seat] = self.attach(seat)

    @rule(data=st.data())
    def reserve(self, data: st.DataObject) -> None:
        seat = data.draw(st.sampled_from(sorted(self.clients)))
        try:
            self.cells.append((seat, self.clients[seat].reserve()))
        except SkerryError as busy:
            self.check(busy, "ARENA_BUSY")
            ours = {entry[1].cell_no for group in self.groups for entry in group if entry[0] == seat}
            free = {index for index in self.arena.geometry.seat(seat) if self.state(index) not in (CellState.REQUESTED, CellState.BUSY)}
            assert free <= ours

    @precondition(lambda self: self.cells)
    @rule(data=st.data(), expired=st.booleans(), priority=st.sampled_from([HIGH, LOW]))
    def commit(self, data: st.DataObject, expired: bool, priority: str) -> None:
        seat, cell = entry = data.draw(st.sampled_from(self.cells))
        self.values += 1
        cell.input[...] = self.values
        waiting = wire.count(self.arena._memory, SEATS * CELLS, CellState.REQUESTED)
        try:
            ticket = self.clients[seat].commit(cell, time.monotonic_ns() + (-1 if expired else FAR_NS), priority)
        except SkerryError as busy:
            self.check(busy, "ARENA_BUSY")
            assert waiting >= (QUEUE if priority == HIGH else (QUEUE + 1) // 2)
            return
        self.cells.remove(entry)
        self.asked.append((seat, ticket, np.full((1, 6), self.values, np.float32)))

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

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), hold=st.booleans())
    def collect(self, data: st.DataObject, hold: bool) -> None:
        seat, ticket, values = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        client, impatient = self.clients[seat], ticket._replace(deadline_ns=0)  # look once, do not wait
        ready = client.ready(ticket)
        try:
            answer = client.hold(impatient) if hold else client.collect(impatient)
        except SkerryError as failed:
            self.check(failed, "ARENA_TIMEOUT", *(["WORKER_CRASH"] if ready else []))
            return
        assert ready
        wanted = fake.expected(values, (1, 2))
        assert np.allclose(answer.output, wanted)
        if hold:
            self.kept.append((seat, ticket, answer.output, wanted))

    @precondition(lambda self: self.asked or self.cells or self.kept)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A reserved cell, a request in flight, or an answer; a second time it does nothing."""
        group = data.draw(st.sampled_from([group for group in self.groups if group]))
        seat, held, *_ = group.pop(data.draw(st.integers(0, len(group) - 1)))
        for _ in range(2):
            self.clients[seat].release(held)

    @rule(data=st.data())
    def client_dies(self, data: st.DataObject) -> None:
        """Its mapping and descriptors go with it; what lies in its cells stays."""
        seat = data.draw(st.sampled_from(sorted(self.clients)))
        self.forget(seat)
        if seat == 0:
            self.clients[0] = self.attach(0)
        else:
            self.seats.give_back(seat)

    def forget(self, seat: int) -> None:
        for group in self.groups:
            group[:] = [entry for entry in group if entry[0] != seat]
        self.clients.pop(seat).close()

    @rule()
    def agent_looks(self) -> None:
        self.loop.deliver()

    @staticmethod
    def check(seen: SkerryError, *codes: str) -> None:
        assert seen.code in codes

    def state(self, index: int) -> int:
        return wire.state(self.arena._memory, index)

    @invariant()
    def held_answers_do_not_change(self) -> None:
        assert all(np.allclose(view, wanted) for _, _, view, wanted in self.kept)

    @invariant()
    def the_agent_counts_what_is_occupied_and_leased(self) -> None:
        states = [self.state(index) for index in range(self.arena.geometry.cells)]
        assert self.arena.occupied() == sum(state in (CellState.REQUESTED, CellState.BUSY) for state in states)
        counts = self.seats.counts()
        assert counts["leased"] == len(self.clients) - 1
        assert sum(counts.values()) == SEATS - 1

    def teardown(self) -> None:
        """All is quiet: every seat is free again, every cell of it serves, with the right answer."""
        if self.server is None:
            self.start_worker()
        assert self.server is not None
        for seat in sorted(self.clients):
            self.forget(seat)
            if seat:
                self.seats.give_back(seat)
        self.server.step()
        self.loop.deliver()
        assert (self.seats.counts(), self.loop.readers) == ({"free": SEATS - 1, "leased": 0, "settling": 0}, {})
        for seat in range(SEATS):
            client = self.attach(seat)
            self.use_all(client)
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
