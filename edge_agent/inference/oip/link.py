"""The agent's end of the front: starts the process, starts it again with back-off, answers what it asks of the repository. No numpy.

A front that is silent hangs and is killed, which is an end like any other.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from contracts.errors import SkerryError
from contracts.oip import SILENT_S
from edge_agent.inference.child import Child
from edge_agent.inference.circuit import backoff_s
from edge_agent.pipeline.framing import Unpacker, pack
from program.clock import Clock, SystemClock
from program.log import Log

# gRPC's event engine hands a request through two threads more than the poller before it did: 140 us, where idle cores have to be woken.
ENVIRONMENT = {"GRPC_EXPERIMENTS": "-event_engine_listener"}


class Repository(Protocol):
    """The admitted slots. Production: slot_repository.py."""

    async def index(self) -> Sequence[Mapping[str, Any]]: ...
    async def load(self, name: str, version: str) -> None: ...
    async def unload(self, name: str, version: str) -> None: ...


@dataclass(frozen=True)
class LinkSettings:
    stop_s: float = 4.0  # from SIGTERM to SIGKILL
    silent_s: float = SILENT_S
    settled_s: float = 60.0  # a process that lived this long starts the back-off anew


class OipLink:
    def __init__(
        self,
        run_dir: Path,
        python: str,
        front: Mapping[str, Any],
        repository: Repository,
        take_window: Callable[[Mapping[str, Any]], None],
        settings: LinkSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Starts nothing. `front`: server.Settings of the front as JSON-like values, without run_dir.

        `take_window`: a `window` of contracts/pipeline.py, for the reports.
        """
        self.ports = {"rest": 0, "grpc": 0}
        self._python, self._front, self._repository = python, {**front, "run_dir": str(run_dir)}, repository
        self._take_window = take_window
        self._settings, self._clock, self._log = settings or LinkSettings(), clock or SystemClock(), Log("oip")
        self._child: Child | None = None
        self._heard_s = 0.0
        self._requests: set[asyncio.Task[None]] = set()

    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the front running until `stop`; raises what a bug raised."""
        failures = 0
        while not stop.is_set():
            began_s = self._clock.mono()
            returncode = await self._one_life(stop)
            if stop.is_set():
                return
            failures = 1 if self._clock.mono() - began_s > self._settings.settled_s else failures + 1
            delay_s = backoff_s(failures)
            self._log.alarm("oip_died", returncode=returncode, restart_in_s=delay_s)
            await self._clock.wait(stop, delay_s)

    # -- the process's life

    async def _one_life(self, stop: asyncio.Event) -> int:
        """Start the process and serve it to its end or ours; its return code."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        with ours, theirs:
            child = self._child = Child(self._argv(theirs.fileno()), (theirs.fileno(),), environment=ENVIRONMENT)
            theirs.close()
            self._heard_s = self._clock.mono()
            tasks = [asyncio.ensure_future(one) for one in (self._serve(ours), self._watch_silence(child), stop.wait())]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in (*tasks, *self._requests):
                    task.cancel()
                await asyncio.gather(*tasks, *self._requests, return_exceptions=True)
                returncode = await child.stop(self._settings.stop_s)
        return returncode

    def _argv(self, stream_fd: int) -> list[str]:
        line = [self._python, "-m", "edge_agent.inference.oip", "--socket-fd", str(stream_fd), "--parent-pid", str(os.getpid())]
        return [*line, "--settings", json.dumps(self._front)]

    async def _watch_silence(self, child: Child) -> None:
        while child.running:
            await asyncio.sleep(self._settings.silent_s / 4)
            silent_s = self._clock.mono() - self._heard_s
            if silent_s > self._settings.silent_s:
                self._log.alarm("oip_hangs", pid=child.pid, silent_s=round(silent_s, 1))
                child.kill(signal.SIGKILL)
                return

    # -- what it says

    async def _serve(self, stream: socket.socket) -> None:
        """Until the process closes its end."""
        loop, unpacker = asyncio.get_running_loop(), Unpacker()
        while True:
            try:
                data = await loop.sock_recv(stream, 65536)
                messages = unpacker.feed(data)
            except ConnectionError:
                return
            except ValueError as broken:  # our own child: a broken stream means that it is broken
                self._log.alarm("oip_stream_broken", detail=str(broken))
                return
            if not data:
                return
            self._heard_s = self._clock.mono()
            for message in messages:
                self._act(stream, message)

    def _act(self, stream: socket.socket, message: dict[str, Any]) -> None:
        if message["kind"] == "hello":
            self.ports = {"rest": message["rest_port"], "grpc": message["grpc_port"]}
            self._log("oip_ready", pid=self.pid(), **{f"{name}_port": port for name, port in self.ports.items()})
        elif message["kind"] == "window":
            self._take_window(message)
        elif message["kind"] == "repository":  # loading takes its time: what it says meanwhile is heard
            request = asyncio.ensure_future(self._answer(stream, message))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)

    async def _answer(self, stream: socket.socket, request: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {"kind": "answer", "request_no": request["request_no"]}
        try:
            answer |= await self._do(request)
        except SkerryError as refused:
            self._log("repository_refused", op=request["op"], code=refused.code, detail=str(refused))
            answer |= {"code": refused.code, "thing": refused.thing, "detail": refused.detail}
        try:
            await asyncio.get_running_loop().sock_sendall(stream, pack(answer))
        except ConnectionError:
            return

    async def _do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if request["op"] == "index":
            return {"models": [dict(one) for one in await self._repository.index()]}
        act = {"load": self._repository.load, "unload": self._repository.unload}[request["op"]]
        await act(request["name"], request["version"])
        return {}
