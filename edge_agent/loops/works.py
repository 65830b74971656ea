"""The work of each state of the update table. Every method may run twice; each first restores what it stands on.

A method returns when its work is done. It raises TransientError (again later), RejectedError or TrustError (this content does
not work here), LocalFaultError (this machine is at fault), StoppedError (asked to stop).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable

from contracts.errors import SkerryError, error
from contracts.features import FeatureSchema
from contracts.manifest import Manifest
from edge_agent.adapters.blobs import StoppedError
from edge_agent.core.admission import AdmittedBundle, Here, admit
from edge_agent.core.floors import Floors, check_epoch, with_epoch
from edge_agent.core.health import Rules, judge
from edge_agent.core.record import Record
from edge_agent.core.update import Work
from edge_agent.loops.exchange import Exchange
from edge_agent.loops.turn import Turn
from edge_agent.ports import Pipeline, Slots, Store, Trust, Workers
from program.clock import Clock

PROBE_STEP_S = 0.5
_ON_WORKERS = frozenset({Work.PROVE, Work.SHADOW, Work.ACTIVATE, Work.ROLL_BACK, Work.TIDY})  # from first to last, and on slots


class Works:
    def __init__(
        self,
        *,
        store: Store,
        slots: Slots,
        trust: Trust,
        workers: Workers,
        pipeline: Pipeline,
        here: Callable[[], Awaitable[Here]],
        know_schema: Callable[[FeatureSchema], None],
        exchange: Exchange,
        clock: Clock,
        turn: Turn,
    ) -> None:
        self._store, self._slots, self._trust, self._workers, self._pipeline = store, slots, trust, workers, pipeline
        self._here, self._know_schema, self._exchange, self._clock, self._turn = here, know_schema, exchange, clock, turn
        self._admitted: AdmittedBundle | None = None
        self._routed: tuple[str, str] | None = None
        self.stopping = threading.Event()  # asks the running work to give up soon
        self._loading: asyncio.Future[None] | None = None
        self._table: dict[Work, Callable[[Record], Awaitable[None]]] = {
            Work.ADMIT: self._admit,
            Work.DOWNLOAD: self._download,
            Work.SEAL: self._seal,
            Work.PROVE: self._prove,
            Work.SHADOW: self._shadow,
            Work.ACTIVATE: self._activate,
            Work.PROBE: self._probe,
            Work.ROLL_BACK: self._roll_back,
            Work.TIDY: self._tidy,
        }

    async def run(self, work: Work, record: Record) -> None:
        async with self._turn.step() if work in _ON_WORKERS else contextlib.nullcontext():
            await self._table[work](record)

    async def restore(self, record: Record) -> None:
        """At start, before any contact with the world: the live model, re-hashed, answers frames again (promise P2)."""
        if not record.live:
            return
        warm = asyncio.ensure_future(self._pipeline.route(None, None))  # its process starts while the worker loads
        try:
            await asyncio.to_thread(self._slots.verify, record.live)
            await self._load(record.live)
        finally:
            await warm
        await self._route(record.live, "")

    def stop(self) -> None:
        """The running work is no longer wanted: a thread of it hears that, a load ends, the rest is short."""
        self.stopping.set()
        if self._loading is not None:
            self._loading.cancel()

    def barred(self, digests: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Those of `digests` that must not run here any more, each with its code: BUNDLE_EPOCH, or what is wrong with its slot."""
        floors = self._store.floors()
        return tuple((digest, code) for digest in digests if (code := self._bar(digest, floors)))

    def _bar(self, digest: str, floors: Floors) -> str:
        try:
            check_epoch(floors, digest, self._slots.manifest(digest).security_epoch)
        except SkerryError as refused:
            return refused.code
        return ""

    # -- one per state

    async def _admit(self, record: Record) -> None:
        async with self._turn.step():
            await self._unload_all_but(record.live)
        admitted = await self._admission(record)
        await asyncio.to_thread(self._slots.check_space, admitted)

    async def _download(self, record: Record) -> None:
        await asyncio.to_thread(self._slots.stage, await self._admission(record), self.stopping.is_set)

    async def _seal(self, record: Record) -> None:
        await asyncio.to_thread(self._slots.seal, record.target)

    async def _prove(self, record: Record) -> None:
        """Memory is asked for only here, beside a live model: one that goes back, or starts again alone, is never refused.

        What was loaded by hand while the bundle was fetched has ended before.
        """
        await self._unload_all_but(record.live, record.target)
        if record.live and record.target not in self._workers.loaded():
            self._workers.check_room(record.target, await asyncio.to_thread(self._slots.manifest, record.target))
        await self._load(record.target)

    async def _shadow(self, record: Record) -> None:
        await self._load(record.target)
        if record.candidate:
            await self._load(record.live)
            await self._route(record.live, record.candidate)

    async def _activate(self, record: Record) -> None:
        manifest = await self._load(record.target)
        check_epoch(self._store.floors(), record.path, manifest.security_epoch)  # the floor may have risen since it was admitted
        await asyncio.to_thread(self._slots.activate, record.target)
        self._exchange.observe(record.target)
        await self._route(record.target, "")

    async def _probe(self, record: Record) -> None:
        async with self._turn.step():
            manifest = await self._load(record.target)
            await self._route(record.target, "")
        rules = Rules(record.min_s, record.min_frames, manifest.limits.latency_p95_us)
        if not self._exchange.observes(record.target):
            self._exchange.observe(record.target)
        began = self._clock.mono()
        while (verdict := judge(self._exchange.observed(record.target), rules, self._clock.mono() - began)) == "wait":
            if self.stopping.is_set():
                raise StoppedError
            self._exchange.windows_came.clear()
            await self._clock.wait(self._exchange.windows_came, PROBE_STEP_S)
        if verdict != "well":
            raise error(verdict[0], record.target, verdict[1])

    async def _roll_back(self, record: Record) -> None:
        if record.previous:
            await self._load(record.previous)
        await asyncio.to_thread(self._slots.activate, record.previous)
        await self._route(record.previous, "")
        await self._unload_all_but(record.previous)
        if record.target != record.previous:
            await self._workers.unload(record.target)  # one whose circuit is open is not loaded, but its arena is still there

    async def _tidy(self, record: Record) -> None:
        live = record.live
        if live:
            manifest = await self._load(live)
            self._store.set_floors(with_epoch(self._store.floors(), manifest.security_epoch))
            await self._route(live, "")
        await asyncio.to_thread(self._slots.activate, live)
        await self._unload_all_but(live)
        await asyncio.to_thread(self._slots.keep_only, record.kept)

    # -- steps

    async def _admission(self, record: Record) -> AdmittedBundle:
        """Judged anew after a restart; once per process otherwise."""
        if self._admitted and self._admitted.digest == record.target:
            return self._admitted
        image, raw = await asyncio.to_thread(self._trust.manifest, record.path, self.stopping.is_set)
        here = await self._here()
        self._admitted = admit(record, image, raw, here=here, floors=self._store.floors(), now=self._clock.utc())
        return self._admitted

    async def _load(self, digest: str) -> Manifest:
        manifest = await asyncio.to_thread(self._slots.manifest, digest)
        for schema in (manifest.feature_schema, *manifest.window_schemas):
            self._know_schema(schema)
        if digest not in self._workers.loaded():
            await self._workers.unload(digest)  # one whose circuit is open is not loaded, but still there
            await self._load_unless_stopped(digest, manifest)
            if self._routed and digest in self._routed:
                self._routed = None  # a new worker is a new arena
        return manifest

    async def _load_unless_stopped(self, digest: str, manifest: Manifest) -> None:
        """A large engine takes minutes, and nobody feeds the watchdog while the loop waits for a work's end."""
        self._loading = asyncio.ensure_future(self._workers.load(digest, self._slots.path(digest), manifest))
        try:
            await self._loading
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                raise
            await self._workers.unload(digest)
            raise StoppedError from None
        finally:
            self._loading = None

    async def _route(self, live: str, shadow: str) -> None:
        if self._routed != (live, shadow):
            await self._pipeline.route(live or None, shadow or None)
            self._routed = (live, shadow)

    async def _unload_all_but(self, live: str, *kept: str) -> None:
        self._admitted = None
        others = self._workers.loaded() - {live, *kept}
        if others and self._routed and self._routed[1]:
            await self._route(live, "")  # no frame may go to a worker that is about to end
        for digest in sorted(others):
            await self._workers.unload(digest)
