"""The front as a real process before real workers, kept by the agent's own end of it, for clients that block.

The agent's side runs in a thread of its own, which lives as long as the site: workers end with the thread that spawned them.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from contracts.manifest import Manifest
from edge_agent.adapters.slot_dirs import SlotDirs
from edge_agent.core.record import Record
from edge_agent.inference.attach import NAME, AttachSocket
from edge_agent.inference.host import HostSettings, WorkerHost
from edge_agent.inference.oip.link import LinkSettings, OipLink
from edge_agent.inference.oip.server import GRPC_SOCKET, REST_SOCKET
from edge_agent.loops.slot_repository import SlotRepository
from edge_agent.loops.turn import Turn

T = TypeVar("T")
WAIT_S = 30.0
FRONT = {"rest_port": 0, "grpc_port": 0}
Slot = tuple[str, Path, Manifest]


class Site:
    """`host`, `link` and what belongs to them are used in the site's own thread: `in_loop`."""

    def __init__(self, folder: Path, live: Slot, front: dict[str, Any], host: HostSettings, link: LinkSettings) -> None:
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.live, self.record = live, Record(history=(live[0],))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="agent")
        self._thread.start()
        self.windows: list[Mapping[str, Any]] = []  # of the front, for the reports
        self.candidate = ""
        self.slots = SlotDirs(live[1].parent, lambda *_: None, lambda *_: None, 0)
        self.host = self.in_loop(self._made(lambda: WorkerHost(sys.executable, self.run_dir, host)))
        self.turn: Turn = self.in_loop(self._made(Turn))
        repository = SlotRepository(self.slots, self.host, lambda: self.record, lambda _: (), self.turn)
        self.link = OipLink(self.run_dir, sys.executable, {**FRONT, **front}, repository, self.windows.append, link)
        self._stop: asyncio.Event = self.in_loop(self._made(asyncio.Event))
        self._tasks: list[asyncio.Task[None]] = []

    @staticmethod
    async def _made(make: Callable[[], T]) -> T:
        return make()

    def in_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    def load(self, slot: Slot) -> None:
        self.in_loop(self.host.load(*slot))

    def unload(self, digest: str) -> None:
        self.in_loop(self.host.unload(digest))

    def make_live(self, slot: Slot) -> None:
        self.live, self.record = slot, Record(history=(self.live[0], slot[0]))

    def start(self) -> None:
        self.load(self.live)
        self.in_loop(self._start())
        self.wait_until(lambda: self.link.ports["rest"])

    def wait_until(self, condition: Callable[[], Any], limit_s: float = WAIT_S) -> None:
        self.in_loop(asyncio.wait_for(_until(condition), limit_s))

    @property
    def rest(self) -> str:
        return f"127.0.0.1:{self.link.ports['rest']}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.link.ports['grpc']}"

    @property
    def rest_socket(self) -> str:
        return str(self.run_dir / REST_SOCKET)

    @property
    def grpc_socket(self) -> str:
        return f"unix:{self.run_dir / GRPC_SOCKET}"

    def pid(self) -> int:
        pid = self.link.pid()
        assert pid
        return pid

    def close(self) -> None:
        self.in_loop(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    async def _start(self) -> None:
        attach = AttachSocket(self.run_dir / NAME, self.host, lambda: self.live[0], candidate=lambda: self.candidate)
        self._tasks = [asyncio.ensure_future(attach.serve()), asyncio.ensure_future(self.link.run(self._stop))]

    async def _end(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks[1:])
        await self.host.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110  ports and states announce themselves to nobody
        await asyncio.sleep(0.01)


@contextmanager
def site(
    folder: Path, live: Slot, front: dict[str, Any] | None = None, host: HostSettings | None = None, link: LinkSettings | None = None
) -> Iterator[Site]:
    """`live` serves when the block begins. `front`: of [oip] in agent.toml."""
    here = Site(folder, live, front or {}, host or HostSettings(), link or LinkSettings())
    try:
        here.start()
        yield here
    finally:
        here.close()
