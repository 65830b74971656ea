"""The agent's end of the pipeline: starts the process, routes it, takes its rows, passes on its windows.

Implements `edge_agent.ports.Pipeline`; no numpy. The process is started by the first `route`, and again with back-off whenever
it ends, with the last routes. Rows are accepted by the injected function in a thread, one request at a time; nothing is asked for
again after a broken stream: what was pending when a process ended is counted as refused, exactly, from the shared counters
(counters.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import LocalFaultError, SkerryError, TransientError, error
from contracts.pipeline import LIVE_LANE
from edge_agent.inference.child import Child
from edge_agent.inference.circuit import backoff_s
from edge_agent.inference.within import within
from edge_agent.pipeline.books import Books
from edge_agent.pipeline.framing import Unpacker, pack
from edge_agent.pipeline.windows import Window
from edge_agent.ports import Workers
from program.clock import Clock, SystemClock
from program.log import Log

Rows = list[list[Any]]
Accept = Callable[[str, str, str, Rows], tuple[str, int]]
"""accept(lane, schema_id, bundle_digest, rows) -> (stream, seq) once the rows are durable; raises SkerryError. Called in a thread."""

COUNTERS_FILE = "pipeline.counters"
DEFAULT_RETRY_S = 1.0  # for a refusal that may pass and names no time
Route = tuple[dict[str, Any] | None, tuple[int, ...]]
NO_ROUTE: Route = (None, ())


@dataclass(frozen=True)
class LinkSettings:
    stop_s: float = 4.0  # from `stop` to SIGTERM, and again to SIGKILL
    silent_s: float = 10.0  # a routed pipeline sends a window each second; this long without a word means it hangs
    settled_s: float = 60.0  # a process that lived this long starts the back-off anew


class PipelineLink:
    def __init__(
        self,
        workers: Workers,
        run_dir: Path,
        python: str,
        source: Mapping[str, Any],
        accept: Accept,
        settings: LinkSettings | None = None,
        clock: Clock | None = None,
        accepted_rows: Callable[[], int] | None = None,
    ) -> None:
        """Starts nothing. `source`: {"kind": "folder", "path", "fps", "deadline_frames"}.

        `accepted_rows`: the ledger's accepted rows of lane live; with it the counters are true also after a SIGKILL of the agent between
        a commit and its counting. Called in a thread.
        """
        self.windows: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._workers, self._python, self._source, self._accept = workers, python, dict(source), accept
        self._settings, self._clock = settings or LinkSettings(), clock or SystemClock()
        self._accepted_rows = accepted_rows
        self._books = Books(run_dir / COUNTERS_FILE)
        self.refusals = self._books.refusals
        self._child: Child | None = None
        self._stream: socket.socket | None = None
        self._target: tuple[str | None, str | None] = (None, None)
        self._route_no = 0
        self._routed: dict[int, asyncio.Future[int]] = {}
        self._sending = asyncio.Lock()
        self._started, self._closing = asyncio.Event(), asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._heard_s = 0.0
        self._log = Log("pipeline")

    async def route(self, live: str | None, shadow: str | None) -> int:
        """See `edge_agent.ports.Pipeline.route`. Returns when the pipeline has switched; a restart in between only delays it.

        Raises LocalFaultError WORKER_START or WORKER_CIRCUIT_OPEN for a digest that is not loaded, RejectedError BUNDLE_PROCESSING when the
        pipeline cannot work with the bundle's processing, BUNDLE_SELF_TEST with its slot or arena; then the old routes stand. One call at a
        time.
        """
        for digest in (live, shadow):
            if digest is not None:
                self._workers.route(digest)  # before anything changes
        before, self._target = self._target, (live, shadow)
        self._route_no += 1
        number = self._route_no
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._routed[number] = future
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="pipeline")
            self._started.set()
        await self._send_routes()
        try:
            return await future
        except SkerryError:
            if self._route_no == number:
                self._target = before  # the pipeline stayed there
            raise
        finally:
            self._routed.pop(number, None)

    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    def counters(self) -> dict[str, int]:
        return self._books.figures()

    async def watch(self) -> None:
        """Never returns; raises what the inner task raised, so that a bug ends the agent."""
        await self._started.wait()
        if self._keeper is not None:
            await asyncio.shield(self._keeper)
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Let the pipeline hand over its last rows, then end it."""
        self._closing.set()
        for future in self._routed.values():
            future.cancel()
        if self._keeper is not None:
            child = self._child
            if child is not None and child.running:
                await self._send(pack({"kind": "stop"}))
                try:
                    await within(child.wait(), self._settings.stop_s)
                except TimeoutError:
                    await child.stop(self._settings.stop_s)
            await self._keeper
        self._books.close()

    # -- the process's life

    async def _keep(self) -> None:
        failures = 0
        await self._open_books()
        while not self._closing.is_set():
            began_s = self._clock.mono()
            returncode = await self._one_life()
            self._account("PIPELINE_ENDED")
            if self._closing.is_set():
                return
            failures = 1 if self._clock.mono() - began_s > self._settings.settled_s else failures + 1
            delay_s = backoff_s(failures)
            self._log.alarm("pipeline_died", returncode=returncode, restart_in_s=delay_s)
            await self._clock.wait(self._closing, delay_s)

    async def _one_life(self) -> int:
        """Start the process and serve it to its end; its return code."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        with ours, theirs:
            child = self._child = Child(self._argv(theirs.fileno()), (theirs.fileno(), self._books.descriptor))
            theirs.close()
            self._stream, self._heard_s = ours, self._clock.mono()
            self._log("pipeline_started", pid=child.pid)
            silence = asyncio.get_running_loop().create_task(self._watch_silence(child), name="pipeline silence")
            try:
                await self._send_routes()
                await self._serve(ours)
            finally:
                self._stream = None
                silence.cancel()
                await asyncio.gather(silence, return_exceptions=True)
            return await child.stop(self._settings.stop_s)

    def _argv(self, stream_fd: int) -> list[str]:
        fds = ["--socket-fd", str(stream_fd), "--counters-fd", str(self._books.descriptor)]
        return [self._python, "-m", "edge_agent.pipeline", *fds, "--parent-pid", str(os.getpid())]

    async def _watch_silence(self, child: Child) -> None:
        while child.running:
            await asyncio.sleep(self._settings.silent_s / 4)
            silent_s = self._clock.mono() - self._heard_s
            if self._target[0] is not None and silent_s > self._settings.silent_s:
                self._log.alarm("pipeline_hangs", pid=child.pid, silent_s=round(silent_s, 1))
                child.kill(signal.SIGKILL)

    # -- what it says

    async def _serve(self, stream: socket.socket) -> None:
        """Until the process closes its end. What it sent before that is still taken."""
        loop, unpacker = asyncio.get_running_loop(), Unpacker()
        while True:
            try:
                data = await loop.sock_recv(stream, 65536)
                messages = unpacker.feed(data)
            except ConnectionError:
                return
            except ValueError as broken:  # it is our own child: a broken stream means that it is broken
                self._log.alarm("pipeline_stream_broken", detail=str(broken))
                return
            if not data:
                return
            self._heard_s = self._clock.mono()
            for message in messages:
                await self._act(message)

    async def _act(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "rows":
            await self._send(pack(await self._answer(message)))
        elif kind == "window":
            self._pass_on(message)
        elif kind == "routed":
            self._note_routed(message)
        elif kind == "hello":
            self._log("pipeline_ready", frame_no=message["frame_no"])

    def _note_routed(self, message: dict[str, Any]) -> None:
        future = self._routed.get(message["route_no"])
        if future is None or future.done():
            return
        if "code" in message:
            future.set_exception(error(message["code"], "pipeline", message["detail"]))
        else:
            future.set_result(int(message["first_frame_no"]))

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        rows = request["rows"]
        reply: dict[str, Any] = {"kind": "answer", "request_no": request["request_no"], "lane": request["lane"]}
        try:
            stream, seq = await asyncio.to_thread(self._accept, request["lane"], request["schema_id"], request["bundle_digest"], rows)
        except SkerryError as refused:
            self._log.debug("rows_refused", code=refused.code, rows=len(rows))
            return {**reply, "code": refused.code, "retry_after_ms": int(_retry_after_s(refused) * 1000)}
        if request["lane"] == LIVE_LANE:  # a window is no frame
            self._books.accepted(len(rows))
        return {**reply, "stream": stream, "seq": seq}

    def _pass_on(self, window: dict[str, Any]) -> None:
        self._books.told(window)
        self.windows.put_nowait(window)

    # -- the books

    async def _open_books(self) -> None:
        ledger = await asyncio.to_thread(self._accepted_rows) if self._accepted_rows is not None else None
        if not self._books.open(ledger):
            self._log.alarm("counters_begin_anew", ledger=ledger)
        self._account("AGENT_ENDED")

    def _account(self, code: str) -> None:
        """No pipeline runs. What no window has told comes as one more window."""
        now_s = self._clock.mono()
        window = self._books.settle(code, Window(now_s, self._target[0] or "", self._target[1] or ""), now_s)
        if window is not None:
            self._pass_on(window)

    # -- sending

    async def _send_routes(self) -> None:
        live, shadow = (self._route_of(digest) for digest in self._target)
        message = {"kind": "routes", "route_no": self._route_no, "live": live[0], "shadow": shadow[0], "source": self._source}
        await self._send(pack(message), (*live[1], *shadow[1]))

    def _route_of(self, digest: str | None) -> Route:
        """Nothing for a worker that has been given up meanwhile: the agent will route anew."""
        if digest is None:
            return NO_ROUTE
        try:
            return self._workers.route(digest)
        except SkerryError as lost:
            self._log.alarm("route_lost", bundle_digest=digest, code=lost.code)
            return NO_ROUTE

    async def _send(self, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Whole messages only. A process that went away is noticed by its end of the stream, not here."""
        async with self._sending:
            stream = self._stream
            if stream is None:
                return
            try:
                sent = await _send_with(stream, data, descriptors)
                await asyncio.get_running_loop().sock_sendall(stream, data[sent:])
            except ConnectionError:
                return


async def _send_with(stream: socket.socket, data: bytes, descriptors: tuple[int, ...]) -> int:
    """Send the first bytes together with the descriptors; how many bytes went."""
    if not descriptors:
        return 0
    loop, writable = asyncio.get_running_loop(), asyncio.Event()
    while True:
        try:
            return socket.send_fds(stream, [data], list(descriptors))
        except BlockingIOError:
            loop.add_writer(stream, writable.set)
            try:
                await writable.wait()
            finally:
                loop.remove_writer(stream)
            writable.clear()


def _retry_after_s(refused: SkerryError) -> float:
    """A full disk or outbox may have room again; rows that do not fit the schema never will, the next ones may."""
    named = refused.retry_after_s if isinstance(refused, TransientError) else None
    return DEFAULT_RETRY_S if named is None and isinstance(refused, TransientError | LocalFaultError) else named or 0.0
