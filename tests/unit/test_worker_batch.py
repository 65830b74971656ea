"""A worker that gathers rows: which rows make a batch, how long it waits, what it fills up with."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import SkerryError
from contracts.manifest import TensorSpec
from edge_agent.inference import wire
from edge_agent.inference.arena import Arena
from edge_agent.inference.client import HIGH, LOW, Client
from edge_agent.inference.worker.backends import BackendError
from edge_agent.inference.worker.batch import BatchServer
from edge_agent.inference.worker.slot import Slot, Tensor

ROWS = 3
ROW = TensorSpec(name="x", dtype="f32", shape=(1, 2))
SLOT = Slot(Path("/"), Tensor("x", "<f4", (ROWS, 2)), Tensor("y", "<f4", (ROWS, 2)), "fake", Path("/"), {}, {})
FAR_NS = 3600 * 10**9


class Doubling:
    """Keeps the batches that it was asked; refuses one with a negative value."""

    compute_is_cpu = False

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def bind(self, input_: Any, output: Any) -> Callable[[], None]:
        def compute() -> None:
            self.batches.append(input_[:, 0].tolist())
            if (input_ < 0).any():
                raise BackendError("negative")
            output[...] = 2 * input_

        return compute

    def close(self) -> None:
        pass


class Rig:
    def __init__(self, delay_us: int) -> None:
        self.arena = Arena.for_tensors(ROW, ROW, seats=1, cells_per_seat=8)
        self.session = Doubling()
        self.server = BatchServer(
            SLOT, self.arena.memfd, self.arena.page_fd, self.arena.request_fd, self.arena.response_fds, delay_us=delay_us
        )
        self.server.bind(self.session)
        self.server.take_over()
        memfd, request_fd, response_fd = (os.dup(number) for number in self.arena.descriptors(0))
        self.client = Client(self.arena.geometry.to_dict(), ROW.model_dump(), ROW.model_dump(), (memfd, request_fd, response_fd))

    def submit(self, first: float, priority: str = HIGH) -> Any:
        return self.client.submit(np.array([[first, 0]], np.float32), time.monotonic_ns() + FAR_NS, priority)

    def close(self) -> None:
        self.client.close()
        self.arena.close()


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(delay_us=getattr(request, "param", 0))
    yield rig
    rig.close()


def test_rows_are_gathered_by_priority_and_age_and_each_gets_its_own_answer(rig: Rig) -> None:
    tickets = [rig.submit(first, priority) for first, priority in ((1, LOW), (2, LOW), (3, HIGH), (4, HIGH), (5, HIGH))]
    rig.server.step()
    assert rig.session.batches == [[3, 4, 5], [1, 2, 0]]
    assert [rig.client.collect(ticket).output[0, 0] for ticket in tickets] == [2, 4, 6, 8, 10]


def test_what_is_missing_is_zero_and_not_what_somebody_asked_before(rig: Rig) -> None:
    for first in (7, 8, 9):
        rig.submit(first)
    rig.server.step()
    rig.submit(1)
    rig.server.step()
    assert rig.session.batches == [[7, 8, 9], [1, 0, 0]]


def test_what_is_given_up_is_no_row(rig: Rig) -> None:
    given_up, wanted = rig.submit(1), rig.submit(2)
    rig.client.release(given_up)
    rig.server.step()
    assert rig.session.batches == [[2, 0, 0]]
    assert rig.client.collect(wanted).output[0, 0] == 4


def test_a_batch_that_the_backend_refuses_is_refused_to_all_of_it(rig: Rig) -> None:
    tickets = [rig.submit(1), rig.submit(-1)]
    rig.server.step()
    for ticket in tickets:
        with pytest.raises(SkerryError, match="WORKER_MODEL"):
            rig.client.collect(ticket)


@pytest.mark.parametrize("rig", [20_000_000], indirect=True)
def test_a_full_batch_waits_no_longer(rig: Rig) -> None:
    rig.submit(1)
    working = threading.Thread(target=rig.server.step)
    began = time.monotonic()
    working.start()
    tickets = [rig.submit(first) for first in (2, 3)]
    working.join(15)
    assert not working.is_alive()
    assert time.monotonic() - began < 15  # the delay is 20 s
    assert rig.session.batches == [[1, 2, 3]]
    assert rig.client.collect(tickets[1]).output[0, 0] == 6


@pytest.mark.parametrize("rig", [30_000], indirect=True)
def test_a_lone_row_waits_for_the_delay_and_no_longer(rig: Rig) -> None:
    ticket = rig.submit(1)
    rig.server.step()
    answer = rig.client.collect(ticket)
    assert rig.session.batches == [[1, 0, 0]]
    assert 30_000 <= answer.queue_us < 10_000_000


def test_a_request_from_the_future_does_not_hold_the_worker_up(rig: Rig) -> None:
    ticket = rig.submit(1)
    wire.write_request(rig.arena._memory, rig.arena.geometry.header(ticket.cell_no), 0, ticket.seq, 2**63, 2**63)
    rig.server.step()
    assert rig.session.batches == [[1, 0, 0]]


@pytest.mark.parametrize("rig", [60_000_000], indirect=True)
def test_a_row_whose_deadline_comes_before_the_delay_is_over_is_answered(rig: Rig) -> None:
    """The others of its batch, too."""
    rig.server.margin_ns = 1_000_000_000  # however slowly this machine wakes us
    tickets = [rig.submit(1), rig.client.submit(np.array([[2, 0]], np.float32), time.monotonic_ns() + 1_200_000_000)]
    rig.server.step()
    assert [rig.client.collect(ticket).output[0, 0] for ticket in tickets] == [2, 4]
