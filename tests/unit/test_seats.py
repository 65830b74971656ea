"""Seats between a client's end and the next client: nothing of the one meets the other."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from contracts.errors import SkerryError
from edge_agent.inference.client import Client
from edge_agent.inference.seats import Seats
from tests.unit.test_worker_serve import INPUT, OUTPUT, Rig

FAR_NS = 3600 * 10**9


class SeatsOf(Rig):
    """One seat to lease, and the descriptors that the event loop would watch."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, tuple[Callable[[int], None], int]] = {}
        self.seats = Seats(self.arena, 1, lambda fd, call, seat: self.watched.update({fd: (call, seat)}), self.watched.pop)

    def look(self) -> None:
        for descriptor in select.select(list(self.watched), [], [], 0)[0]:
            call, seat = self.watched[descriptor]
            call(seat)


@pytest.fixture
def rig() -> Iterator[SeatsOf]:
    rig = SeatsOf()
    yield rig
    rig.close()


def ask(client: Client) -> None:
    client.submit(np.ones((1, 2), np.float32), time.monotonic_ns() + FAR_NS)


def test_a_seat_is_leased_again_only_when_the_worker_is_done_with_it(rig: SeatsOf) -> None:
    seat = rig.seats.lease()
    ask(rig.clients[seat])
    rig.seats.give_back(seat)
    assert rig.seats.counts() == {"free": 0, "leased": 0, "settling": 1}
    with pytest.raises(SkerryError, match="ARENA_SEATS"):
        rig.seats.lease()
    rig.server.step()
    assert rig.session.seen == []  # nobody wants it any more
    rig.look()
    assert (rig.seats.counts(), rig.watched) == ({"free": 1, "leased": 0, "settling": 0}, {})
    assert rig.seats.lease() == seat


def test_a_client_that_died_before_it_woke_the_worker_is_settled_without_waiting_for_a_heartbeat(rig: SeatsOf) -> None:
    seat, client = rig.seats.lease(), rig.clients[1]
    ask(client)
    os.read(rig.arena.request_fd, 8)  # as if it had not signalled
    rig.seats.give_back(seat)
    assert select.select([rig.arena.request_fd], [], [], 0)[0]


def test_revoked_seats_are_not_leased_and_their_clients_see_it(rig: SeatsOf) -> None:
    seat = rig.seats.lease()
    assert not rig.clients[seat].detached
    rig.seats.revoke()
    assert rig.clients[seat].detached
    with pytest.raises(SkerryError, match="ARENA_DETACHED"):
        rig.clients[seat].reserve()
    rig.seats.give_back(seat)
    with pytest.raises(SkerryError, match="ARENA_DETACHED"):
        rig.seats.lease()
    assert rig.watched == {}


def test_when_the_agent_is_gone_nobody_waits_for_its_worker_much_longer(rig: SeatsOf) -> None:
    """The worker dies with its agent, and nobody is left to say so in the arena."""
    ours, theirs = socket.socketpair()
    memfd, request_fd, response_fd = (os.dup(number) for number in rig.arena.descriptors(1))
    route = {**rig.arena.geometry.to_dict(), "seat": 1}
    client = Client(route, INPUT.model_dump(), OUTPUT.model_dump(), (memfd, request_fd, response_fd), ours)
    assert client.connection_fileno() == ours.fileno()
    ticket = client.submit(np.ones((1, 2), np.float32), time.monotonic_ns() + FAR_NS)
    theirs.close()
    with pytest.raises(SkerryError, match="ARENA_DETACHED"):
        client.collect(ticket)
    assert client.detached
    client.close()
