"""The worker's loop, in one thread with its clients: order, deadlines, what it says of an answer."""

from __future__ import annotations

import os
import select
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import SkerryError
from contracts.manifest import TensorSpec
from edge_agent.inference import wire
from edge_agent.inference.arena import MEMORY_BYTES, Arena, cells_within
from edge_agent.inference.client import HIGH, LOW, Answer, Client, Ticket
from edge_agent.inference.spin import Spin
from edge_agent.inference.worker.serve import Server, finite_check
from edge_agent.inference.worker.slot import Slot, Tensor

INPUT, OUTPUT = TensorSpec(name="x", dtype="f32", shape=(1, 2)), TensorSpec(name="y", dtype="f32", shape=(1, 2))
SLOT = Slot(Path("/"), Tensor("x", "<f4", (1, 2)), Tensor("y", "<f4", (1, 2)), "fake", Path("/"), {}, {})
FAR_NS = 3600 * 10**9


class Echo:
    """Answers with its input, and keeps the order of what it was asked."""

    compute_is_cpu = False

    def __init__(self) -> None:
        self.seen: list[float] = []

    def bind(self, input_: Any, output: Any) -> Callable[[], None]:
        def compute() -> None:
            self.seen.append(float(input_.flat[0]))
            output[...] = input_

        return compute

    def close(self) -> None:
        pass


class Rig:
    def __init__(self) -> None:
        self.arena = Arena.for_tensors(INPUT, OUTPUT, seats=2, cells_per_seat=3)
        self.server = Server(SLOT, self.arena.memfd, self.arena.page_fd, self.arena.request_fd, self.arena.response_fds)
        self.session = Echo()
        self.server.bind(self.session)
        self.server.take_over()
        self.clients = [self._attach(seat) for seat in range(2)]

    def _attach(self, seat: int, kind: type[Client] = Client) -> Client:
        memfd, request_fd, response_fd = (os.dup(number) for number in self.arena.descriptors(seat))
        route = {**self.arena.geometry.to_dict(), "seat": seat}
        return kind(route, INPUT.model_dump(), OUTPUT.model_dump(), (memfd, request_fd, response_fd))

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.arena.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def values(first: float) -> Any:
    return np.array([[first, 0]], np.float32)


def later() -> int:
    return time.monotonic_ns() + FAR_NS


def test_high_priority_goes_first_then_the_oldest_of_all_seats(rig: Rig) -> None:
    one, two = rig.clients
    for client, first, priority in ((one, 1, LOW), (two, 2, LOW), (two, 3, HIGH), (one, 4, HIGH)):
        client.submit(values(first), later(), priority)
    rig.server.step()
    assert rig.session.seen == [3, 4, 1, 2]


def test_a_counter_that_a_client_filled_up_ends_neither_worker_nor_agent_nor_another_client(rig: Rig) -> None:
    """All who have a seat share the worker's eventfd, and its answers come by one that the client can write to."""
    for eventfd in rig.arena.descriptors(0)[1:]:
        wire.drain(eventfd)
        os.write(eventfd, struct.pack("=Q", 2**64 - 2))
    ticket = rig.clients[0].submit(values(1), later())
    rig.server.step()
    assert rig.clients[0].collect(ticket).output.tolist() == [[1, 0]]
    os.write(rig.arena.request_fd, struct.pack("=Q", 2**64 - 2))
    rig.arena.cancel(0)
    assert rig.arena.settle(0)


@pytest.mark.timeout(10)
def test_an_eventfd_that_a_client_made_to_block_holds_up_nobody(rig: Rig) -> None:
    """The flag is in the open file that all of them share."""
    client, descriptors = rig.clients[0], rig.arena.descriptors(0)[1:]
    for eventfd in descriptors:
        wire.drain(eventfd)
        os.set_blocking(eventfd, True)
        wire.drain(eventfd)
        os.write(eventfd, struct.pack("=Q", 2**64 - 2))
    ticket = client.submit(values(1), later())
    rig.server.step()
    assert client.collect(ticket).output.tolist() == [[1, 0]]
    for eventfd in descriptors:
        os.set_blocking(eventfd, True)
    rig.arena.cancel(0)
    assert rig.arena.settle(0)


def test_nothing_that_a_client_writes_makes_the_worker_look_hung_or_its_successor_fail(rig: Rig) -> None:
    memory = rig.clients[0]._memory
    memory[: wire.PAGE_BYTES] = bytes(wire.PAGE_BYTES)
    rig.server.step()
    assert rig.arena.silent_s() < 60
    rig.server = Server(SLOT, rig.arena.memfd, rig.arena.page_fd, rig.arena.request_fd, rig.arena.response_fds)
    rig.server.bind(rig.session)
    rig.server.take_over()
    assert (rig.arena.word(wire.Word.STARTS), rig.arena.silent_s() < 60) == (2, True)
    assert rig.clients[1].collect(_served(rig, rig.clients[1])).output.tolist() == [[5, 0]]


def _served(rig: Rig, client: Client) -> Ticket:
    ticket = client.submit(values(5), later())
    rig.server.step()
    return ticket


@pytest.mark.parametrize("word", [wire.Status.OK, 77])
def test_what_another_client_wrote_into_a_header_is_a_refusal_and_no_crash(rig: Rig, word: int) -> None:
    client = rig.clients[0]
    ticket = client.submit(values(1), later())
    rig.server.step()
    wire.write_result(client._memory, rig.arena.geometry.header(ticket.cell_no) + wire.RESULT_OFFSET, word, 0, 0, 0)
    wire.set_state(client._memory, ticket.cell_no, wire.CellState.FAILED)
    assert outcome(client, ticket) == "WORKER_CRASH"
    wire.write_request(client._memory, rig.arena.geometry.header(0), wire.Priority.HIGH, 2**64 - 1, 0, 0)
    heir = rig._attach(0)
    ticket = heir.submit(values(2), later())
    rig.server.step()
    assert heir.collect(ticket).output.tolist() == [[2, 0]]
    heir.close()


def outcome(client: Client, ticket: Ticket) -> str:
    with pytest.raises(SkerryError) as failed:
        client.collect(ticket)
    return failed.value.code


def test_what_is_too_late_leaves_the_queue_before_anything_is_computed(rig: Rig) -> None:
    """Under a load of high priority that never ends, nobody else would take it up."""
    low, high = rig.clients
    late = low.submit(values(1), time.monotonic_ns(), LOW)
    gone = low.submit(values(2), later(), LOW)
    low.release(gone)
    for first in (3, 4):
        high.submit(values(first), later())
    rig.server._answer_next(rig.server._waiting())
    rig.server._answer_next(rig.server._waiting())
    assert (rig.session.seen, outcome(low, late)) == ([], "ARENA_TIMEOUT")
    assert len([low.reserve() for _ in range(3)]) == 3
    rig.server.step()
    assert rig.session.seen == [3, 4]


def test_a_worker_that_died_before_it_told_of_an_answer_has_told_when_its_successor_is_there(rig: Rig) -> None:
    client = rig.clients[0]
    ticket = client.submit(values(1), later())
    rig.server.step()
    client.drain()
    rig.server.take_over()
    assert select.select([client.fileno()], [], [], 0)[0]
    assert client.ready(ticket)


def test_an_answer_that_comes_while_another_is_waited_for_still_wakes_an_event_loop(rig: Rig) -> None:
    client = rig.clients[0]
    first, second = (client.submit(values(number), later()) for number in (1, 2))
    worker = threading.Timer(0.05, rig.server.step)
    worker.start()
    client.collect(second)
    worker.join()
    assert select.select([client.fileno()], [], [], 0)[0]
    assert client.ready(first)


def test_closing_twice_closes_nobody_elses_descriptors(rig: Rig) -> None:
    client = rig._attach(0)
    client.close()
    others = [os.dup(0) for _ in range(3)]
    client.close()
    assert all(os.fstat(other) for other in others)
    for other in others:
        os.close(other)


def test_a_copy_that_is_interrupted_keeps_no_cell(rig: Rig) -> None:
    client = rig._attach(0, Interrupted)
    ticket = client.submit(values(1), later())
    rig.server.step()
    with pytest.raises(KeyboardInterrupt):
        client.collect(ticket)
    assert len([client.reserve() for _ in range(3)]) == 3
    client.close()


class Interrupted(Client):
    """Ctrl-C comes while it copies."""

    def hold(self, ticket: Ticket) -> Answer:
        return super().hold(ticket)._replace(output=self)

    def copy(self) -> None:
        raise KeyboardInterrupt


def test_a_request_that_cannot_be_made_keeps_no_cell(rig: Rig) -> None:
    client = rig.clients[0]
    for _ in range(3):
        with pytest.raises(KeyError):
            client.submit(values(1), later(), "urgent")
        with pytest.raises(struct.error):
            client.submit(values(1), 2**64)
    assert [client.reserve().cell_no for _ in range(3)] == [0, 1, 2]


def test_a_wait_that_is_interrupted_keeps_no_cell(rig: Rig) -> None:
    """However long it would have been."""
    client = rig.clients[0]
    ticket = client.submit(values(1), 2**64 - 1)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(KeyboardInterrupt):
            client.collect(ticket)
    finally:
        signal.signal(signal.SIGALRM, before)
    rig.server.step()
    assert rig.session.seen == [], "nobody wants it any more"
    assert [client.reserve().cell_no for _ in range(3)] == [0, 1, 2]


def test_what_is_given_up_or_too_late_is_not_computed(rig: Rig) -> None:
    client = rig.clients[0]
    given_up, late = client.submit(values(1), later()), client.submit(values(2), time.monotonic_ns() - 1)
    client.release(given_up)
    rig.server.step()
    assert rig.session.seen == []
    with pytest.raises(SkerryError, match="ARENA_TIMEOUT"):
        client.collect(late)
    assert [client.reserve().cell_no for _ in range(3)] == [0, 1, 2]  # all are ours again


def test_a_cell_busy_with_a_dead_workers_request_is_failed_by_the_next(rig: Rig) -> None:
    client = rig.clients[1]
    ticket = client.submit(values(1), later())
    wire.set_state(rig.arena._memory, ticket.cell_no, wire.CellState.BUSY)
    rig.server.take_over()
    with pytest.raises(SkerryError, match="WORKER_CRASH"):
        client.collect(ticket._replace(deadline_ns=0))  # one look


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_told(rig: Rig, bad: float) -> None:
    client = rig.clients[0]
    tickets = [client.submit(values(first), later()) for first in (1.0, bad, 3e38)]
    with np.errstate(invalid="ignore"):  # as the worker's process has it
        rig.server.step()
    assert [client.collect(ticket).finite for ticket in tickets] == [True, False, True]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "i1", "<i8"])
def test_finite_is_what_numpy_calls_finite(dtype: str) -> None:
    output = np.full((3, 5), 100, dtype)
    check = finite_check(output, np.zeros(15, dtype))
    assert check() is True
    if output.dtype.kind == "f":
        output[:] = np.finfo(dtype).max
        assert check() is True
        for bad in (np.nan, np.inf, -np.inf):
            output[2, 4] = bad
            with np.errstate(invalid="ignore"):
                assert check() is False


def test_a_held_answer_stays_until_it_is_released(rig: Rig) -> None:
    client = rig.clients[0]
    first = client.submit(values(1), later())
    rig.server.step()
    view = client.hold(first).output
    others = [client.submit(values(k), later()) for k in (2, 3)]
    with pytest.raises(SkerryError, match="ARENA_BUSY"):
        client.submit(values(4), later())
    rig.server.step()
    assert view[0, 0] == 1
    client.release(first)
    assert [client.collect(ticket).output[0, 0] for ticket in others] == [2, 3]
    with pytest.raises(ValueError, match="released"):
        client.collect(first)


@pytest.mark.parametrize(
    ("cell_bytes", "seats", "wanted", "cells"),
    [(8192, 8, 8, 8), (MEMORY_BYTES // 16, 8, 8, 2), (MEMORY_BYTES, 8, 8, 2), (MEMORY_BYTES, 8, 1, 1)],
)
def test_large_tensors_get_fewer_cells(cell_bytes: int, seats: int, wanted: int, cells: int) -> None:
    assert cells_within(MEMORY_BYTES, cell_bytes, seats, wanted) == cells


def test_what_a_worker_looks_for_before_it_waits_is_a_request(rig: Rig) -> None:
    assert not rig.server._asked()
    rig.clients[0].submit(values(1), later())
    assert rig.server._asked()
    rig.server.step()
    assert not rig.server._asked()


def test_only_a_request_that_is_alone_is_announced_and_only_to_a_worker_that_may_look(rig: Rig) -> None:
    client = rig.clients[0]
    client.announce()
    assert not woken(rig)
    client._spin = Spin(50)
    client.announce()
    assert woken(rig)
    assert not rig.server.step(), "nothing was asked yet"
    ticket = client.submit(values(1), later())
    assert rig.server.step()
    client.announce()
    assert not woken(rig), "one is on its way"
    assert client.collect(ticket).output[0, 0] == 1


def woken(rig: Rig) -> bool:
    return bool(select.select([rig.arena.request_fd], [], [], 0)[0])


def test_a_client_that_may_look_sees_an_answer_without_a_wake_up(rig: Rig) -> None:
    client = rig.clients[0]
    client._spin = Spin(50, iter(range(0, 1_000_000, 10_000)).__next__)
    ticket = client.submit(values(1), later())
    assert not client.look(ticket)
    rig.server.step()
    assert client.look(ticket)


@given(st.binary(min_size=6, max_size=6), st.binary(min_size=6 * 64, max_size=6 * 64))
def test_whatever_a_client_writes_into_states_and_headers_the_worker_goes_on(states: bytes, headers: bytes) -> None:
    rig = Rig()
    memory, geometry = rig.arena._memory, rig.arena.geometry
    for index, state in enumerate(states):
        memory[geometry.header(index) : geometry.header(index) + 64] = headers[64 * index : 64 * index + 64]
        memory[wire._STATES_OFFSET + index] = state % 7
    requested = wire.find(memory, geometry.cells, wire.CellState.REQUESTED)
    rig.server.step()
    assert {wire.state(memory, index) for index in requested} <= {wire.CellState.DONE, wire.CellState.FAILED}
    for seat in range(2):
        rig.arena.cancel(seat)
        assert rig.arena.settle(seat) == all(wire.state(memory, index) != wire.CellState.BUSY for index in geometry.seat(seat))
    rig.close()
