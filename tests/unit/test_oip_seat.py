"""A seat in the event loop: whose turn it is, who is answered, what a caller takes with it when it goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from contracts.errors import SkerryError
from edge_agent.inference.client import Answer, Array
from edge_agent.inference.oip.seat import Seat
from tests.simulators.oip import SimSeatClient

WAIT_S = 20.0


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, WAIT_S))


def ask(seat: Seat, value: float, timeout_s: float = WAIT_S) -> asyncio.Task[float]:
    def fill(cell: Array) -> None:
        cell[...] = value

    def use(answer: Answer) -> float:
        return float(answer.output[0, 0])

    return asyncio.ensure_future(seat.infer(fill, use, time.monotonic_ns() + int(timeout_s * 1e9)))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  it only lets the others run
        await asyncio.sleep(0)


async def code_of(task: asyncio.Task[float]) -> str:
    with pytest.raises(SkerryError) as refused:
        await task
    return refused.value.code


def test_each_caller_gets_its_own_answer_and_cells_come_back() -> None:
    async def scenario() -> None:
        client = SimSeatClient(cells=2)
        seat = Seat(client, line_limit=4)
        tasks = [ask(seat, value) for value in (1, 2, 3, 4)]
        await until(lambda: client.waiting == 2)
        assert seat.pending == 4
        for _ in range(4):
            await until(lambda: client.waiting > 0)
            client.settle()
        assert await asyncio.gather(*tasks) == [4, 8, 12, 16]
        assert (client.free, seat.pending) == (2, 0)
        seat.close()

    run(scenario())


def test_the_line_is_bounded() -> None:
    async def scenario() -> None:
        client = SimSeatClient(cells=1)
        seat = Seat(client, line_limit=1)
        first, second = ask(seat, 1), ask(seat, 2)
        await until(lambda: seat.pending == 2)
        assert await code_of(ask(seat, 3, 0.1)) == "ARENA_BUSY"
        client.settle()
        await until(lambda: client.waiting == 1)
        client.settle()
        assert [await first, await second] == [4, 8]
        seat.close()

    run(scenario())


def test_who_waits_too_long_leaves_the_line_and_its_cell() -> None:
    async def scenario() -> None:
        client = SimSeatClient(cells=1)
        seat = Seat(client, line_limit=2)
        first, second, third = ask(seat, 1, 0.05), ask(seat, 2, 0.05), ask(seat, 3)
        assert await code_of(first) == "ARENA_TIMEOUT"
        assert await code_of(second) == "ARENA_TIMEOUT"
        await until(lambda: client.waiting == 1)
        client.settle()
        assert await third == 12
        assert 1 in client.cancelled
        seat.close()

    run(scenario())


def test_a_caller_that_is_cancelled_takes_its_request_with_it() -> None:
    async def scenario() -> None:
        client = SimSeatClient(cells=1)
        seat = Seat(client, line_limit=2)
        asked, in_line, last = ask(seat, 1), ask(seat, 2), ask(seat, 3)
        await until(lambda: client.waiting == 1 and seat.pending == 3)
        in_line.cancel()
        asked.cancel()
        await asyncio.gather(asked, in_line, return_exceptions=True)
        assert client.cancelled == [1]
        await until(lambda: client.waiting == 1)
        client.settle()
        assert await last == 12
        assert client.free == 1
        seat.close()

    run(scenario())


def test_a_turn_that_came_to_a_cancelled_caller_goes_to_the_next() -> None:
    async def scenario() -> None:
        client = SimSeatClient(cells=1)
        seat = Seat(client, line_limit=2)
        first, second, third = ask(seat, 1), ask(seat, 2), ask(seat, 3)
        await until(lambda: seat.pending == 3)
        client.settle()
        first.add_done_callback(lambda _: second.cancel())
        assert await first == 4
        await until(lambda: second.cancelled() and client.waiting == 1)
        client.settle()
        assert await third == 12
        assert client.free == 1
        seat.close()

    run(scenario())


def test_what_filling_or_reading_raises_costs_no_cell() -> None:
    async def scenario() -> None:
        client = SimSeatClient(cells=1, at_once=True)
        seat = Seat(client, line_limit=2)

        def broken(_: Any) -> float:
            raise ValueError("broken")

        for fill, use in ((broken, lambda answer: 0.0), (lambda cell: None, broken)):
            with pytest.raises(ValueError, match="broken"):
                await seat.infer(fill, use, time.monotonic_ns() + int(WAIT_S * 1e9))  # type: ignore[arg-type]
            assert client.free == 1
        seat.close()

    run(scenario())


def test_when_the_agent_hangs_up_nobody_waits_for_ever() -> None:
    async def scenario() -> None:
        client = SimSeatClient(cells=1)
        seat = Seat(client, line_limit=2)
        asked, in_line = ask(seat, 1), ask(seat, 2)
        await until(lambda: seat.pending == 2)
        client.hang_up()
        assert [await code_of(asked), await code_of(in_line)] == ["ARENA_DETACHED"] * 2
        seat.close()
        assert client.closed

    run(scenario())
