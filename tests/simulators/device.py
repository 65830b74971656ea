"""A whole device without processes: the agent's own loops over simulated workers, pipeline, slots and trust.

`Disk` is what survives a power cut (agent.db is the real one); `Device` is one life of the agent on it.
"""

from __future__ import annotations

import asyncio
import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from contracts.assignment import Assignment
from contracts.errors import SkerryError, error
from contracts.manifest import Manifest
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.core.admission import Here, ImageTarget
from edge_agent.core.orders import Order
from edge_agent.loops import health
from edge_agent.loops.exchange import Exchange
from edge_agent.loops.turn import Turn
from edge_agent.loops.update import STUCK_S, UpdateLoop
from edge_agent.loops.works import Works
from edge_agent.ports import Slots, Trust, WorkerDeath
from processing.latency import bucket, empty
from program.clock import Clock, SystemClock
from tests.simulators.bundle_bytes import PROFILE, BundleBytes
from tests.simulators.slots import SimSlots


class SimTrust:
    def __init__(self, *bundles: BundleBytes) -> None:
        self.bundles = {bundle.path: bundle for bundle in bundles}
        self.faults: list[SkerryError] = []

    def poll(self) -> Assignment:
        raise error("TUF_UNREACHABLE")

    def manifest(self, path: str, stopped: Callable[[], bool]) -> tuple[ImageTarget, bytes]:
        if self.faults:
            raise self.faults.pop(0)
        if path not in self.bundles:
            raise error("BUNDLE_NOT_IN_IMAGE", path)
        bundle = self.bundles[path]
        return ImageTarget(path, len(bundle.manifest), bundle.digest), bundle.manifest


class SimWorkers:
    """`faults`: digest -> what loading it raises. A digest that is loaded answers; one of `held` is loaded no further than `begun` until
    `let_go`."""

    def __init__(self, faults: dict[str, SkerryError] | None = None) -> None:
        self.deaths: asyncio.Queue[WorkerDeath] = asyncio.Queue()
        self.faults = faults or {}
        self.too_large: set[str] = set()  # digests for which there is no memory beside a live one
        self.held: set[str] = set()
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.open: set[str] = set()  # circuits: no longer loaded, but still there
        self._loaded: set[str] = set()

    def check_room(self, digest: str, manifest: Manifest) -> None:
        if digest in self.too_large:
            raise error("WORKER_MEMORY", digest)

    async def load(self, digest: str, slot: Path, manifest: Manifest) -> None:
        if digest in self.faults:
            raise self.faults[digest]
        if digest in self.held:
            self.begun.set()
            await self.let_go.wait()
        self.loads.append(digest)
        self._loaded.add(digest)

    async def unload(self, digest: str) -> None:
        self.unloads.append(digest)
        self.open.discard(digest)
        self._loaded.discard(digest)

    def give_up(self, digest: str) -> None:
        """The fifth death."""
        self._loaded.discard(digest)
        self.open.add(digest)
        self.deaths.put_nowait(WorkerDeath(digest, -9, circuit_open=True))

    def loaded(self) -> frozenset[str]:
        return frozenset(self._loaded)

    def route(self, digest: str) -> tuple[dict[str, Any], tuple[int, ...]]:
        return {"digest": digest}, ()

    def pids(self) -> dict[str, int]:
        return dict.fromkeys(self._loaded, 1)


class SimPipeline:
    """Gives windows of the live model; `us` is its latency, `not_finite` its NaNs."""

    def __init__(self, workers: SimWorkers, us: float = 100.0, not_finite: int = 0) -> None:
        self.windows: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.routes: list[tuple[str | None, str | None]] = []
        self._workers, self._us, self._not_finite = workers, us, not_finite

    async def route(self, live: str | None, shadow: str | None) -> int:
        asked = {one for one in (live, shadow) if one}
        if not asked <= self._workers.loaded():
            raise AssertionError(f"routed to a worker that is not loaded: {asked}")
        self.routes.append((live, shadow))
        return len(self.routes)

    async def run(self, stop: asyncio.Event) -> None:
        """A window of the live model every few milliseconds."""
        while not await SystemClock().wait(stop, 0.002):
            if self.routes and (live := self.routes[-1][0]):
                self.windows.put_nowait(self.window(live, 50))

    def window(self, digest: str, frames: int) -> dict[str, Any]:
        latency = empty()
        latency[bucket(self._us)] = frames
        sums = {"duration_s": 1.0, "frames": frames, "accepted_rows": frames, "refused": 0, "not_finite": self._not_finite, "cpu_us": 1}
        return {"kind": "window", "bundle_digest": digest, **sums, "latency": latency}

    def pid(self) -> int | None:
        return 1


class Disk:
    """What a power cut leaves: agent.db, the slots, and what the world offers."""

    def __init__(self, folder: Path, *bundles: BundleBytes) -> None:
        self.path, self.slots, self.trust = folder / "agent.db", SimSlots(), SimTrust(*bundles)
        self.load_faults: dict[str, SkerryError] = {}
        self.us, self.not_finite = 100.0, 0

    def copy(self, folder: Path) -> Disk:
        folder.mkdir(exist_ok=True)
        for path in self.path.parent.glob("agent.db*"):
            shutil.copy(path, folder)
        other = Disk(folder, *self.trust.bundles.values())
        other.slots = copy.deepcopy(self.slots)
        return other


class World(Protocol):
    """What a device stands on: a `Disk`, or a real folder (device_process.py)."""

    path: Path
    load_faults: dict[str, SkerryError]
    us: float
    not_finite: int

    @property
    def slots(self) -> Slots: ...

    @property
    def trust(self) -> Trust: ...


class Device:
    """One life of the agent on a disk."""

    def __init__(
        self, disk: World, *, db: type[AgentDb] = AgentDb, works: type[Works] = Works, clock: Clock | None = None, stuck_s: float = STUCK_S
    ) -> None:
        self.disk, self.exchange, self.clock = disk, Exchange(), clock or SystemClock()
        self.db, self.turn = db(disk.path), Turn()
        self.workers = SimWorkers(disk.load_faults)
        self.pipeline = SimPipeline(self.workers, disk.us, disk.not_finite)
        self.works = works(
            store=self.db, slots=disk.slots, trust=disk.trust, workers=self.workers, pipeline=self.pipeline, here=self._here,
            know_schema=lambda schema: None, exchange=self.exchange, clock=self.clock, turn=self.turn,
        )  # fmt: skip
        self.update = UpdateLoop(self.db, self.works, self.exchange, self.clock, share=lambda: 0.0, stamp=dict, stuck_s=stuck_s)

    async def _here(self) -> Here:
        return Here(PROFILE, {"onnxruntime": "1.23"}, "0.1.0")

    async def live(self, until: Callable[[Device], bool], order: Order | None = None, limit_s: float = 10.0) -> None:
        """Start, take the order, run until the condition holds. Raises TimeoutError at the limit, and what ends a loop."""
        self.exchange.order = order or self.exchange.order
        stop = asyncio.Event()
        tasks = [
            asyncio.ensure_future(health.run(self.pipeline, self.workers, self.exchange, stop)),
            asyncio.ensure_future(self.pipeline.run(stop)),
        ]
        try:
            await self.update.restore()
            tasks.append(asyncio.ensure_future(self.update.run(stop)))
            await asyncio.wait_for(self._reached(until, tasks), limit_s)
        finally:
            stop.set()
            self.exchange.wake_all()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.db.close()

    async def _reached(self, until: Callable[[Device], bool], tasks: Sequence[asyncio.Future[None]]) -> None:
        while not until(self):
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.wait(tasks, timeout=0.002, return_when=asyncio.FIRST_COMPLETED)


def settled(device: Device) -> bool:
    """Nothing is under way and the slot folder agrees with the record."""
    record = device.update.record
    return record.terminal and device.disk.slots.current() == record.live and device.workers.loaded() == frozenset({record.live} - {""})


def order_for(bundle: BundleBytes, fence: int = 1, **changes: Any) -> Order:
    values: dict[str, Any] = {
        "generation": fence, "kind": "install", "execution": f"c{fence}/d/1", "fence": fence, "path": bundle.path, "digest": bundle.digest,
        "length": len(bundle.manifest), "activate": True, "min_frames": 10,
    }  # fmt: skip
    return Order(**values | changes)
