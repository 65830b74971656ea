"""Which models the front knows, and for how long it believes it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from contracts.errors import SkerryError
from edge_agent.inference.oip.models import FRESH_S, NEW_S, Models
from tests.simulators.oip import SimArenas, listed


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


async def code_of(call: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(SkerryError) as refused:
        await call
    return refused.value.code


def test_a_name_means_the_live_version_or_the_only_one() -> None:
    async def scenario() -> None:
        arenas = SimArenas(listed(number=1, live=False), listed(number=2), listed("other", 7, live=False))
        models = Models(arenas, 1)
        assert (await models.find("tiny", "")).version == "2"
        assert (await models.find("tiny", "1")).version == "1"
        assert (await models.find("other", "")).version == "7"
        arenas.loaded.append(listed("other", 8, live=False))
        models.forget()
        assert await code_of(models.find("other", "")) == "ARENA_MODEL"
        assert await code_of(models.find("tiny", "3")) == "ARENA_MODEL"

    run(scenario())


def test_the_list_is_asked_for_when_it_is_old_and_by_all_at_once() -> None:
    async def scenario() -> None:
        now, arenas = [0.0], SimArenas(listed())
        models = Models(arenas, 1, lambda: now[0])
        await asyncio.gather(*(models.find("tiny", "") for _ in range(5)))
        assert arenas.asked == 1
        now[0] = FRESH_S
        await models.find("tiny", "")
        assert arenas.asked == 1
        arenas.loaded = [listed(number=2)]
        now[0] += 0.1
        assert (await models.find("tiny", "")).version == "2"
        assert arenas.asked == 2

    run(scenario())


def test_what_is_not_known_is_asked_for_once_more_but_not_at_every_request() -> None:
    async def scenario() -> None:
        now, arenas = [0.0], SimArenas()
        models = Models(arenas, 1, lambda: now[0])
        assert await models.all() == ()
        arenas.loaded.append(listed())
        for _ in range(100):
            assert await code_of(models.find("tiny", "")) == "ARENA_MODEL"
        assert arenas.asked == 1
        now[0] += 2 * NEW_S
        assert (await models.find("tiny", "")).ready

    run(scenario())


def test_a_seat_is_attached_once_and_anew_when_it_has_ended() -> None:
    async def scenario() -> None:
        arenas = SimArenas(listed())
        models = Models(arenas, 1)
        model = await models.find("tiny", "")
        seats = await asyncio.gather(*(models.seat(model) for _ in range(4)))
        assert len({id(seat) for seat in seats}) == 1
        (client,) = arenas.clients[model.digest]
        client.hang_up()
        assert await models.seat(model) is not seats[0]
        assert client.closed
        arenas.loaded.clear()
        arenas.clients[model.digest][1].hang_up()
        assert await code_of(models.seat(model)) == "ARENA_MODEL"
        models.close()

    run(scenario())
