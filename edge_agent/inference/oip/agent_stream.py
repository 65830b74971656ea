"""The front's end of its stream to the agent: it is alive, what was answered, what clients ask of the repository.

contracts/oip.py has the messages.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contracts.errors import CODES, SkerryError, error
from contracts.oip import ALIVE_S
from edge_agent.pipeline.framing import Unpacker, pack


class AgentStream:
    """Implements `ports.Repository`."""

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self._stream, self._unpacker = stream, Unpacker()
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._request_no = 0
        self._sending = asyncio.Lock()

    async def index(self) -> Sequence[Mapping[str, Any]]:
        models: Sequence[Mapping[str, Any]] = (await self._ask({"op": "index"}))["models"]
        return models

    async def load(self, name: str, version: str) -> None:
        await self._ask({"op": "load", "name": name, "version": version})

    async def unload(self, name: str, version: str) -> None:
        await self._ask({"op": "unload", "name": name, "version": version})

    async def run(self, rest_port: int, grpc_port: int, windows: Callable[[], Sequence[dict[str, Any]]]) -> None:
        """Until the agent is gone. `windows`: what has come together since it was last asked."""
        await self._send({"kind": "hello", "rest_port": rest_port, "grpc_port": grpc_port})
        beating = asyncio.ensure_future(self._beat(windows))
        try:
            await self._listen()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            for future in self._asked.values():
                future.cancel()

    # -- inside

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._request_no += 1
        number = self._request_no
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            await self._send({"kind": "repository", "request_no": number, **request})
            answer = await future
        finally:
            del self._asked[number]
        if "code" in answer:
            raise _refusal(answer)
        return answer

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(self._stream, 65536)
            except ConnectionError:
                return
            if not data:
                return
            for message in self._unpacker.feed(data):
                future = self._asked.get(message.get("request_no", -1))
                if message["kind"] == "answer" and future is not None and not future.done():
                    future.set_result(message)

    async def _beat(self, windows: Callable[[], Sequence[dict[str, Any]]]) -> None:
        while True:
            for window in windows():
                await self._send(window)
            await self._send({"kind": "alive"})
            await asyncio.sleep(ALIVE_S)

    async def _send(self, message: dict[str, Any]) -> None:
        """An agent that is gone is noticed by the end of the stream."""
        async with self._sending:
            try:
                await asyncio.get_running_loop().sock_sendall(self._stream, pack(message))
            except ConnectionError:
                return


def _refusal(answer: Mapping[str, Any]) -> SkerryError:
    """An agent of another age may know codes that we do not."""
    code = answer["code"] if answer["code"] in CODES else "OIP_NOT_ADMITTED"
    return error(code, str(answer.get("thing", "")), str(answer.get("detail", "")))
