"""agent.sock: what it answers, and who gets no place there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import SkerryError
from edge_agent.adapters.control_socket import MAX_CONNECTIONS, ControlSocket, ask
from program.clock import SystemClock
from tests.unit.test_agent_loops import settle


def test_the_control_socket_answers_follows_and_refuses(tmp_path: Path) -> None:
    state = {"n": 0}

    def status() -> dict[str, Any]:
        state["n"] = min(state["n"] + 1, 3)
        return dict(state)

    async def story() -> list[Any]:
        stop = asyncio.Event()
        task = asyncio.ensure_future(ControlSocket(tmp_path / "agent.sock", {"status": status}, SystemClock()).run(stop))
        await settle()
        one = await asyncio.to_thread(next, ask(tmp_path, "status"))
        follow = ask(tmp_path, "follow")
        followed = [await asyncio.to_thread(next, follow) for _ in range(2)]
        del follow  # hangs up
        odd = await asyncio.to_thread(next, ask(tmp_path, "rm"))
        stop.set()
        await task
        return [one, followed, odd]

    assert asyncio.run(story()) == [{"n": 1}, [{"n": 2}, {"n": 3}], {"error": "unknown op 'rm'"}]
    with pytest.raises(SkerryError):
        next(ask(tmp_path, "status"))


def test_who_says_nothing_to_the_control_socket_keeps_no_place(tmp_path: Path) -> None:
    async def story() -> Any:
        stop = asyncio.Event()
        control = ControlSocket(tmp_path / "agent.sock", {"status": lambda: {"n": 1}}, SystemClock(), request_s=0.2)
        task = asyncio.ensure_future(control.run(stop))
        await settle()
        silent = [await asyncio.open_unix_connection(tmp_path / "agent.sock") for _ in range(MAX_CONNECTIONS)]
        silent.append(await asyncio.open_unix_connection(tmp_path / "agent.sock"))
        assert await silent[-1][0].read() == b"", "closed at once"
        for reader, writer in silent:
            assert await reader.read() == b""
            writer.close()
        answer = await asyncio.to_thread(next, ask(tmp_path, "status"))
        stop.set()
        await task
        return answer

    assert asyncio.run(asyncio.wait_for(story(), 20)) == {"n": 1}
