"""A warm parent whose children are clients of an arena and die by SIGKILL with a cell in their hands.

    python -m tests.simulators.dying_clients SOCKET COUNT SEED      one JSON line: how many died where

A child kills itself at a chosen point, so that the point is hit each time; those that die `anywhere` are killed from outside, after a
random time, in the middle of whatever they do.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from contracts.errors import SkerryError
from edge_agent.inference import wire
from edge_agent.inference.client import LOW, Client
from tests.simulators.bundles import golden_inputs

SLOW_VALUE = 1e6  # the worker computes long enough on it to be met while it does
LIMIT_S = 30.0
NO_SEAT = 3
VALUES = golden_inputs(1)
SLOW = VALUES.copy()
SLOW.flat[0] = SLOW_VALUE


def far() -> int:
    return time.monotonic_ns() + int(LIMIT_S * 1e9)


def attached(client: Client) -> None:
    pass


def reserved(client: Client) -> None:
    client.reserve().input[...] = VALUES


def requested(client: Client) -> None:
    client.submit(VALUES, far(), LOW)


def computing(client: Client) -> None:
    """Where the processor is ours in time; else it has answered already."""
    ticket = client.submit(SLOW, far())
    while wire.state(client._memory, ticket.cell_no) == wire.CellState.REQUESTED and time.monotonic_ns() < ticket.deadline_ns:
        pass


def answered(client: Client) -> None:
    ticket = client.submit(VALUES, far())
    while not client.ready(ticket) and time.monotonic_ns() < ticket.deadline_ns:
        pass


def holding(client: Client) -> None:
    client.hold(client.submit(VALUES, far()))


def every_cell(client: Client) -> None:
    try:
        while True:
            client.submit(VALUES, far())
    except SkerryError:
        pass


def between_request_and_wake_up(client: Client) -> None:
    """The cell says REQUESTED, and nobody was told."""
    client._request_fd = os.eventfd(0)
    client.submit(VALUES, far())


def anywhere(client: Client) -> None:
    while True:
        np.sum(client.infer(VALUES, LIMIT_S).output)


POINTS: tuple[Callable[[Client], None], ...] = (
    attached, reserved, requested, computing, answered, holding, every_cell, between_request_and_wake_up, anywhere,
)  # fmt: skip


def die(path: str, point: Callable[[Client], None]) -> None:
    try:
        client = Client.attach(path, timeout_s=LIMIT_S)
    except SkerryError as refused:
        os._exit(NO_SEAT if refused.code == "ARENA_SEATS" else 1)
    try:
        point(client)
        os.kill(os.getpid(), signal.SIGKILL)
    finally:
        os._exit(1)  # a child must never return into its parent's code


def kill_one(path: str, point: Callable[[Client], None], dice: random.Random) -> int:
    """The child's wait status."""
    child = os.fork()
    if child == 0:
        die(path, point)
    if point is anywhere:
        ended = os.pidfd_open(child)
        select.select([ended], [], [], dice.uniform(0, 0.006))
        os.close(ended)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def main(path: str, count: int, seed: int) -> Counter[str]:
    dice, died = random.Random(seed), Counter[str]()
    for number in range(count):
        point = POINTS[number % len(POINTS)]
        until = time.monotonic() + LIMIT_S
        while (status := kill_one(path, point, dice)) != signal.SIGKILL:
            if not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == NO_SEAT) or time.monotonic() > until:
                raise SystemExit(f"client {number} ({point.__name__}) ended with status {status}")
        died[point.__name__] += 1
    return died


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
