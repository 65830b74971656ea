"""Loaded model versions: one worker process and one arena each. Implements `edge_agent.ports.Workers`; agent side, no numpy.

A worker that dies unasked is started again on the *same* arena, so that its clients' descriptors stay valid; how soon, and when it is given
up, circuit.py says. A worker whose heartbeat stands still is killed, which is a death like any other. Starting includes the self-test: a
worker that is loaded has passed its golden vectors, each time anew.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from contracts.errors import SkerryError, error
from contracts.features import FeatureSchema
from contracts.manifest import Manifest, TensorSpec
from edge_agent.core.memory import check_room
from edge_agent.inference import wire
from edge_agent.inference.arena import Arena, geometry_for, one_row
from edge_agent.inference.child import Child
from edge_agent.inference.circuit import Circuit
from edge_agent.inference.lease import Lease, which
from edge_agent.inference.seats import Seats
from edge_agent.inference.within import within
from edge_agent.inference.worker_code import code_root_for
from edge_agent.inference.worker_probe import ask_versions
from edge_agent.inference.worker_report import judge, read_line
from edge_agent.ports import WorkerDeath
from firmware_profiles import telemetry
from firmware_profiles.compatible import choose
from program.clock import Clock, SystemClock
from program.log import Log

_DRAIN_LOOK_S = 0.005


@dataclass(frozen=True)
class HostSettings:
    seats: int = 8  # client processes per worker: 0 is the pipeline, the others are leased over the attach socket
    cells_per_seat: int = 8  # fewer for large tensors: arena.MEMORY_BYTES
    queue_limit: int = 32  # requests that wait for one worker, over all seats
    memory_reserve_bytes: int = 256 << 20  # stays available when one more worker starts
    spin_us: int = 0  # how long a wait spins before it blocks
    batch_delay_us: int | None = None  # how long a model of several rows waits for them; None: its clients bring whole batches
    ready_s: float = 60.0  # from spawn to READY, self-test included
    hang_s: float = 5.0  # a heartbeat older than this means the worker hangs
    stop_s: float = 2.0  # from SIGTERM to SIGKILL
    drain_s: float = 1.0  # how long requests in flight may finish before an unloaded worker is ended


@dataclass
class _Worker:
    digest: str
    slot: Path
    manifest: Manifest
    variant: int
    arena: Arena
    seats: Seats
    circuit: Circuit = field(default_factory=Circuit)
    child: Child | None = None
    figures: dict[str, Any] = field(default_factory=dict)  # of the last self-test
    state: str = "loading"  # -> ready <-> restarting -> open
    keeper: asyncio.Task[None] | None = None


class WorkerHost:
    """Spawns workers from the event loop's thread. `python` is the interpreter of the workers, perhaps the board's own (3.8 or later)."""

    def __init__(
        self,
        python: str,
        run_dir: Path,
        settings: HostSettings | None = None,
        clock: Clock | None = None,
        memory: Callable[[], telemetry.Memory | None] = telemetry.memory,
    ) -> None:
        """Nothing is spawned here. `run_dir` holds links to our worker's code when `python` is not the agent's own interpreter."""
        self.deaths: asyncio.Queue[WorkerDeath] = asyncio.Queue()
        self._python = python
        self._run_dir = run_dir
        self._settings = settings or HostSettings()
        self._clock, self._memory = clock or SystemClock(), memory
        self._workers: dict[str, _Worker] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._versions: dict[str, str] | None = None
        self._failures: asyncio.Queue[BaseException] = asyncio.Queue()
        self._log = Log("workers")

    async def probe(self) -> dict[str, str]:
        """Backend -> version, as the workers' interpreter sees them; asked once. Raises LocalFaultError WORKER_START."""
        if self._versions is None:
            self._versions = await ask_versions(self._python, self._code_root(), self._settings.ready_s)
        return dict(self._versions)

    def check_room(self, digest: str, manifest: Manifest) -> None:
        """Raises LocalFaultError WORKER_MEMORY when a worker of this bundle would leave too little memory to those that run."""
        memory, settings = self._memory(), self._settings
        available_bytes = memory.available_bytes if memory else None
        cells_bytes = geometry_for(*self._tensors(manifest), settings.seats, settings.cells_per_seat).total_bytes
        check_room(digest, manifest.limits.memory_bytes + cells_bytes, available_bytes, settings.memory_reserve_bytes)

    async def load(self, digest: str, slot: Path, manifest: Manifest) -> None:
        """See `edge_agent.ports.Workers.load`. Two loads of one digest at once are one load with one outcome."""
        worker = self._workers.get(digest)
        if worker is not None and worker.state != "loading":
            if worker.circuit.open:
                raise error("WORKER_CIRCUIT_OPEN", digest)
            return
        task = self._loads.get(digest)
        if task is None:
            task = self._loads[digest] = asyncio.get_running_loop().create_task(
                self._load(digest, slot, manifest), name=f"load {digest[:12]}"
            )
        await asyncio.shield(task)

    async def unload(self, digest: str) -> None:
        """End the worker and free its arena; nothing happens when it is not loaded."""
        loading = self._loads.get(digest)
        if loading is not None:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        worker = self._workers.pop(digest, None)
        if worker is not None:
            await self._end(worker)
            self._log("worker_unloaded", bundle_digest=digest)

    def loaded(self) -> frozenset[str]:
        """Digests whose worker runs or is being restarted; not those whose circuit is open."""
        return frozenset(digest for digest, worker in self._workers.items() if worker.state in ("ready", "restarting"))

    def route(self, digest: str, seat: int = 0) -> tuple[dict[str, Any], tuple[int, ...]]:
        """The `route` of contracts/pipeline.py for the client on `seat`, and its [memfd, request eventfd, response eventfd].

        Raises LocalFaultError WORKER_START (not loaded) or WORKER_CIRCUIT_OPEN.
        """
        worker = self._serving(digest)
        manifest, settings = worker.manifest, self._settings
        input_, output = self._tensors(manifest)
        limits = {"seat": seat, "queue_limit": settings.queue_limit, "spin_us": settings.spin_us}
        route = {
            "digest": digest,
            "name": manifest.name,
            "number": manifest.number,
            "slot": os.path.abspath(worker.slot),
            "arena": {**worker.arena.geometry.to_dict(), **limits},
            "input": input_.model_dump(mode="json"),
            "output": output.model_dump(mode="json"),
            "schema_id": manifest.feature_schema.schema_id,
            "columns": _columns(manifest.feature_schema),
            "windows": [{"schema_id": schema.schema_id, "columns": _columns(schema)} for schema in manifest.window_schemas],
        }
        return route, worker.arena.descriptors(seat)

    def lease(self, model: str, live: str) -> Lease:
        """A seat of the worker that `model` means: a digest, a name, or "" for the digest `live`.

        Raises RejectedError ARENA_MODEL, TransientError ARENA_SEATS, and as `route`.
        """
        digest = which({digest: worker.manifest.name for digest, worker in self._workers.items()}, model, live)
        seats = self._serving(digest).seats
        seat = seats.lease()
        route, descriptors = self.route(digest, seat)
        return Lease(route, descriptors, seats.revoked, partial(seats.give_back, seat))

    def models(self, live: str, candidate: str = "") -> list[dict[str, Any]]:
        """What is loaded, for the attach socket's `list`. `candidate`: the digest that is tried beside `live`, if any."""
        return [
            {
                "name": worker.manifest.name,
                "number": worker.manifest.number,
                "digest": digest,
                "state": worker.state,
                "live": digest == live,
                "candidate": digest == candidate != live,
                "backend": worker.manifest.variants[worker.variant].backend,
                "precision": worker.manifest.variants[worker.variant].precision,
                **{
                    tensor: spec.model_dump(mode="json")
                    for tensor, spec in zip(("input", "output"), self._tensors(worker.manifest), strict=True)
                },
            }
            for digest, worker in self._workers.items()
        ]

    def _batches(self, manifest: Manifest) -> bool:
        """Whether the worker gathers rows: switched on, and this model takes and gives several."""
        rows = manifest.input.shape[:1]
        return self._settings.batch_delay_us is not None and rows == manifest.output.shape[:1] and rows > (1,)

    def _tensors(self, manifest: Manifest) -> tuple[TensorSpec, TensorSpec]:
        """What a cell holds: the manifest's tensors, or one row of each."""
        whole = manifest.input, manifest.output
        return (one_row(whole[0]), one_row(whole[1])) if self._batches(manifest) else whole

    def _serving(self, digest: str) -> _Worker:
        worker = self._workers.get(digest)
        if worker is None or worker.state == "loading":
            raise error("WORKER_START", digest, "this bundle is not loaded")
        if worker.circuit.open:
            raise error("WORKER_CIRCUIT_OPEN", digest)
        return worker

    def pids(self) -> dict[str, int]:
        """Running workers; one that is being restarted has none."""
        return {d: w.child.pid for d, w in self._workers.items() if w.child is not None and w.child.running}

    def cells(self) -> dict[str, int]:
        """Cells per worker that are requested or being computed now."""
        return {digest: worker.arena.occupied() for digest, worker in self._workers.items()}

    def figures(self) -> dict[str, dict[str, Any]]:
        """Per worker: state, pid, busy cells, answers so far, starts, and what its last self-test measured."""
        pids = self.pids()
        return {
            digest: {
                "state": worker.state,
                "pid": pids.get(digest),
                "busy_cells": worker.arena.occupied(),
                "seats": worker.seats.counts(),
                "served": worker.arena.word(wire.Word.SERVED),
                "starts": worker.arena.word(wire.Word.STARTS),
                "self_test": worker.figures,
            }
            for digest, worker in self._workers.items()
        }

    async def watch(self) -> None:
        """Never returns; raises what an inner task raised, so that a bug ends the agent."""
        raise await self._failures.get()

    async def close(self) -> None:
        """End every worker."""
        for digest in {*self._workers, *self._loads}:
            await self.unload(digest)

    # -- loading

    async def _load(self, digest: str, slot: Path, manifest: Manifest) -> None:
        settings = self._settings
        try:
            variant = choose(manifest, await self.probe())
            if variant is None:
                raise error("WORKER_MODEL", digest, "no variant fits a backend of this worker's interpreter")
            with spawning(digest):
                arena = Arena.for_tensors(*self._tensors(manifest), settings.seats, settings.cells_per_seat)
            seats = Seats(arena, 1, asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)
            worker = _Worker(digest, slot, manifest, manifest.variants.index(variant), arena, seats)
            self._workers[digest] = worker
            try:
                await self._start(worker)
            except BaseException:
                self._workers.pop(digest)
                await self._end(worker)
                raise
            worker.keeper = asyncio.get_running_loop().create_task(self._keep(worker), name=f"keep {digest[:12]}")
            worker.keeper.add_done_callback(self._note_failure)
        finally:
            self._loads.pop(digest, None)

    async def _start(self, worker: _Worker) -> None:
        """Spawn and wait for READY. Raises what the worker reported; then it has been killed and reaped."""
        child, reports = self._spawn(worker)
        worker.child = child
        try:
            worker.figures = judge(await self._report(reports, worker), worker.digest)
        except BaseException:
            child.kill()
            await child.wait()
            raise
        finally:
            os.close(reports)
        worker.state = "ready"
        self._log("worker_ready", bundle_digest=worker.digest, pid=child.pid, figures=worker.figures)

    def _spawn(self, worker: _Worker) -> tuple[Child, int]:
        """And the pipe of its reports, ours to close. Raises LocalFaultError WORKER_START."""
        memfd, request_fd, _ = worker.arena.descriptors(0)
        with spawning(worker.digest), ExitStack() as undo:
            reports, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            undo.callback(os.close, reports)
            try:
                os.set_blocking(writer, True)
                passed = (memfd, worker.arena.page_fd, request_fd, *worker.arena.response_fds, writer)
                child = Child(self._argv(worker, writer), passed, self._code_root())
            finally:
                os.close(writer)
            undo.pop_all()
        return child, reports

    async def _report(self, descriptor: int, worker: _Worker) -> bytes:
        try:
            return await within(read_line(descriptor), self._settings.ready_s)
        except TimeoutError:
            raise error("WORKER_START", worker.digest, f"not ready within {self._settings.ready_s:g} s") from None

    def _argv(self, worker: _Worker, control_fd: int) -> list[str]:
        memfd, request_fd, _ = worker.arena.descriptors(0)
        return [
            *(self._python, "-X", "faulthandler", "-m", "edge_agent.inference.worker"),
            *("--slot", os.path.abspath(worker.slot), "--variant", str(worker.variant), "--parent-pid", str(os.getpid())),
            *("--arena-fd", str(memfd), "--page-fd", str(worker.arena.page_fd), "--request-fd", str(request_fd)),
            *("--control-fd", str(control_fd)),
            *("--response-fds", ",".join(map(str, worker.arena.response_fds)), "--spin-us", str(self._settings.spin_us)),
            *(("--batch-delay-us", str(self._settings.batch_delay_us)) if self._batches(worker.manifest) else ()),
        ]

    def _code_root(self) -> Path:
        return code_root_for(self._python, self._run_dir)

    # -- keeping

    async def _keep(self, worker: _Worker) -> None:
        """Restart after each unasked death, until the circuit opens or the worker is unloaded (then this task is cancelled)."""
        while True:
            returncode = await self._death(worker)
            worker.arena.mark_absent()
            worker.state = "restarting"
            while True:
                delay_s = worker.circuit.died(self._clock.mono())
                self._announce(worker, returncode, delay_s)
                if delay_s is None:
                    worker.state = "open"
                    worker.seats.revoke()
                    return
                await asyncio.sleep(delay_s)
                try:
                    await self._start(worker)
                    break
                except SkerryError as failed:
                    self._log("worker_restart_failed", bundle_digest=worker.digest, code=failed.code, detail=str(failed))
                    returncode = await _ended(worker)

    async def _death(self, worker: _Worker) -> int:
        """Wait for the end of a worker; kill it when its heartbeat stands still."""
        while True:
            try:
                return await within(_ended(worker), self._settings.hang_s / 4)
            except TimeoutError:
                silent_s = worker.arena.silent_s()
                if silent_s > self._settings.hang_s and worker.child is not None:
                    self._log.alarm("worker_hangs", bundle_digest=worker.digest, pid=worker.child.pid, silent_s=round(silent_s, 1))
                    worker.child.kill(signal.SIGKILL)

    def _announce(self, worker: _Worker, returncode: int, delay_s: float | None) -> None:
        death = WorkerDeath(worker.digest, returncode, delay_s is None)
        told = {"bundle_digest": death.digest, "code": death.code, "returncode": returncode, "circuit_open": death.circuit_open}
        self._log.alarm("worker_died", **told, restart_in_s=delay_s)
        self.deaths.put_nowait(death)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            failure = task.exception()
            if failure is not None:
                self._failures.put_nowait(failure)

    async def _end(self, worker: _Worker) -> None:
        worker.seats.revoke()
        if worker.keeper is not None:
            worker.keeper.cancel()
            await asyncio.gather(worker.keeper, return_exceptions=True)
        if worker.child is not None and worker.child.running:
            await self._drain(worker)
            await worker.child.stop(self._settings.stop_s)
        worker.arena.mark_absent()
        worker.arena.close()

    async def _drain(self, worker: _Worker) -> None:
        """Clients have been told to go; what they have asked already is answered, if the worker is up to it."""
        until_s = self._clock.mono() + self._settings.drain_s
        while worker.state == "ready" and worker.arena.occupied() and self._clock.mono() < until_s:  # noqa: ASYNC110  the wake-ups are the clients'
            await asyncio.sleep(_DRAIN_LOOK_S)


@contextmanager
def spawning(digest: str) -> Iterator[None]:
    """Raises LocalFaultError WORKER_START when the machine has no process, descriptor or memory left for a worker."""
    try:
        yield
    except OSError as full:
        raise error("WORKER_START", digest, str(full)) from full


async def _ended(worker: _Worker) -> int:
    if worker.child is None:
        raise AssertionError("a worker that is kept has a child")
    return await worker.child.wait()


def _columns(schema: FeatureSchema) -> list[dict[str, Any]]:
    return [column.model_dump(mode="json") for column in schema.columns]
