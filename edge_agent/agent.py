"""The only place where the agent is put together.

Order at start: keys and databases, then the live model back on frames (no network), then READY, then everything that talks.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from contracts.assignment import Assignment
from contracts.errors import SkerryError, error
from contracts.features import FeatureSchema
from contracts.ids import LANES
from contracts.manifest import Manifest
from contracts.pipeline import LIVE_LANE
from edge_agent import AGENT_VERSION, status
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.adapters.blobs import BlobClient
from edge_agent.adapters.boot import boot_id
from edge_agent.adapters.control_plane_client import ControlPlaneClient
from edge_agent.adapters.control_socket import NAME, ControlSocket
from edge_agent.adapters.http import Http
from edge_agent.adapters.identity import Identity
from edge_agent.adapters.no_source import NoPipeline
from edge_agent.adapters.slot_dirs import SlotDirs
from edge_agent.config import AgentConfig, InferenceConfig
from edge_agent.core.admission import Here, ImageTarget
from edge_agent.core.backoff import Backoff
from edge_agent.core.floors import with_time
from edge_agent.core.orders import parse
from edge_agent.inference import attach
from edge_agent.inference.host import HostSettings, WorkerHost
from edge_agent.inference.oip.link import OipLink
from edge_agent.loops import health, renewal, watchdog
from edge_agent.loops.exchange import Exchange
from edge_agent.loops.poll import PollLoop
from edge_agent.loops.report import ReportLoop
from edge_agent.loops.slot_repository import SlotRepository
from edge_agent.loops.turn import Turn
from edge_agent.loops.update import UpdateLoop
from edge_agent.loops.works import Works
from edge_agent.pipeline.link import COUNTERS_FILE, PipelineLink
from edge_agent.ports import Trust
from firmware_profiles.detect import detect
from program import notify
from program.clock import SystemClock
from program.disk import take
from program.log import Log
from program.tally import Tally
from signatures.bundle import check_bundle
from sync.uplink.outbox import Outbox
from sync.uplink.uplink import Uplink, UplinkSettings

ALARM_PAUSE_S = 60.0  # between two reports of one alarm
THREADS = 8  # more than can block on the network at once: a slow server must not hold up the outbox


async def main(config: AgentConfig, stop: asyncio.Event) -> None:
    """Run until `stop`. Raises LocalFaultError ENROL_MISSING when this device has no identity, SETUP_STATE_TAKEN beside another agent."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="skerry"))
    identity = Identity.load(config.state_dir / "keys")
    held = take(config.state_dir)
    agent = Agent(config, identity)
    try:
        await agent.run(stop)
    finally:
        await agent.close()
        os.close(held)


class Schemas:
    """Feature schemas of the bundles on this device, by id; rows come with the id alone."""

    def __init__(self, outbox: Outbox, nudge: Callable[[], None]) -> None:
        self._outbox, self._nudge = outbox, nudge
        self._known: dict[str, FeatureSchema] = {}

    def know(self, schema: FeatureSchema) -> None:
        self._known[schema.schema_id] = schema

    def accept(self, lane: str, schema_id: str, bundle_digest: str, rows: list[list[Any]]) -> tuple[str, int]:
        """(stream, seq), durable when it returns; blocks for an fsync. Raises OUTBOX_*."""
        schema = self._known.get(schema_id)
        if schema is None:
            raise error("OUTBOX_SCHEMA", schema_id, "no bundle on this device has it")
        accepted = self._outbox.accept(lane, schema, bundle_digest, rows)
        self._nudge()
        return accepted.stream, accepted.seq


@dataclass
class Stamp:
    """When something happened, for reports."""

    boot: str
    clock: SystemClock

    def __call__(self) -> dict[str, Any]:
        return {"boot_id": self.boot, "mono_ms": int(self.clock.mono() * 1000), "utc": self.clock.utc().isoformat(timespec="milliseconds")}


class Agent:
    def __init__(self, config: AgentConfig, identity: Identity) -> None:
        self._config, self._identity, self._log = config, identity, Log("agent", device_id=identity.device)
        self._clock, self._exchange = SystemClock(), Exchange()
        self._alarms: Tally[str] = Tally(ALARM_PAUSE_S, other="ACK_SIGNATURE")
        self._stamp = Stamp(boot_id(), self._clock)
        _folders(config)
        profile = detect(config.profile_root)
        self._profile, self._inference = profile.name, host_settings(config.inference, profile.spin_us)
        self._open_stores()
        self._open_children()
        self._make_loops()

    # -- putting together

    def _open_stores(self) -> None:
        config, identity = self._config, self._identity
        self._db = AgentDb(config.state_dir / "agent.db")
        self._db.set_floors(with_time(self._db.floors(), identity.not_before))
        self._http = Http(self._tls, config.network)
        blobs = BlobClient(self._http, f"{identity.pins.control_url}/device/v1/blobs", config.network.blob_deadline_s)
        self._slots = SlotDirs(config.state_dir / "slots", blobs.fetch, self._check_signature, config.free_space_margin_bytes)
        self._outbox = Outbox(
            config.state_dir / "outbox.db",
            device=identity.device,
            boot_id=self._stamp.boot,
            key=identity.signing_key(),
            budgets={lane: getattr(config.budgets, f"{lane}_bytes") for lane in LANES},
            clock=self._clock,
            reserve_bytes=config.budgets.reserve_bytes,
        )

    def _tls(self) -> ssl.SSLContext:
        return self._identity.tls()

    def _check_signature(self, manifest: Manifest, model_sig: bytes, provenance: bytes) -> None:
        digests = {name: member.sha256 for name, member in manifest.members.items()}
        check_bundle(digests, model_sig, provenance, self._identity.pins.model_signing_keys)

    def _open_children(self) -> None:
        config, pins = self._config, self._identity.pins
        self._uplink = Uplink(
            self._outbox,
            UplinkSettings(host=pins.broker_host, port=pins.broker_port),
            tls=self._tls,
            ack_keys=self._exchange.ack_keys,
            on_wake=self._exchange.poll_wanted.set,
            on_alarm=self._alarm,
            clock=self._clock,
        )
        self._schemas = Schemas(self._outbox, self._uplink.nudge)
        self._host = WorkerHost(config.worker_python, config.run_dir, self._inference)
        self._attach = attach.AttachSocket(
            config.run_dir / attach.NAME,
            self._host,
            live=lambda: self._update.record.live,
            candidate=lambda: self._update.record.candidate,
        )
        self._pipeline: PipelineLink | NoPipeline = NoPipeline(config.run_dir / COUNTERS_FILE, self._accepted_live_rows)
        if config.source:
            source = config.source.model_dump(mode="json")
            self._pipeline = PipelineLink(
                self._host, config.run_dir, sys.executable, source, self._schemas.accept, accepted_rows=self._accepted_live_rows
            )

    def _accepted_live_rows(self) -> int:
        return sum(entry.accepted_rows for entry in self._outbox.ledger().values() if entry.lane == LIVE_LANE)

    def _make_loops(self) -> None:
        backoff, trust, self._turn = Backoff(cap_s=self._config.network.retry_cap_s), LateTrust(self._new_trust), Turn()
        self._works = Works(
            store=self._db,
            slots=self._slots,
            trust=trust,
            workers=self._host,
            pipeline=self._pipeline,
            here=self._here,
            know_schema=self._schemas.know,
            exchange=self._exchange,
            clock=self._clock,
            turn=self._turn,
        )
        self._update = UpdateLoop(self._db, self._works, self._exchange, self._clock, share=random.random, stamp=self._stamp)
        self._oip = self._front()
        control = self._control = ControlPlaneClient(self._http, self._identity.pins.control_url)
        self._report = ReportLoop(
            self._identity.device,
            self._db,
            control,
            self._exchange,
            self._clock,
            record=lambda: self._update.record,
            hello=lambda: status.hello(self._sources()),
            stamp=self._stamp,
            backoff=backoff,
            share=random.random,
        )
        self._poll = PollLoop(
            self._identity.device,
            trust.poll,
            self._exchange,
            self._clock,
            share=random.random,
            backoff=backoff,
            note=self._report.note,
            on_assignment=self._uplink.keys_changed,
        )

    def _front(self) -> OipLink | None:
        if self._config.oip is None:
            return None
        repository = SlotRepository(self._slots, self._host, lambda: self._update.record, self._works.barred, self._turn)
        return OipLink(
            self._config.run_dir, sys.executable, self._config.oip.model_dump(mode="json"), repository, self._exchange.take_window
        )

    def _new_trust(self) -> Trust:
        # Imported here: python-tuf costs a third of a second, and frames must flow before that.
        from edge_agent.adapters.tuf_client import TufClient  # noqa: PLC0415

        return TufClient(self._http, self._identity.pins, self._config.state_dir / "tuf", self._db, self._clock)

    async def _here(self) -> Here:
        return Here(self._profile, await self._host.probe(), AGENT_VERSION)

    # -- running

    async def run(self, stop: asyncio.Event) -> None:
        self._remember_assignment()
        await self._update.restore()
        self._log("agent_ready", profile=self._profile, bundle_digest=self._update.record.live, state=self._update.record.state.value)
        notify.ready(f"running {self._update.record.live[:12] or 'no model'}")
        answers = {"status": lambda: status.status(self._sources()), "ledger": lambda: status.ledger(self._sources())}
        await run_all(
            stop,
            self._exchange.wake_all,
            update=self._update.run(stop),
            poll=self._poll.run(stop),
            report=self._report.run(stop),
            health=health.run(self._pipeline, self._host, self._exchange, stop),
            uplink=self._uplink.run(stop),
            renewal=renewal.run(lambda: self._identity, self._renew, self._clock, stop, renewed=self._renewed, share=random.random),
            control=ControlSocket(self._config.run_dir / NAME, answers, self._clock).run(stop),
            watchdog=watchdog.run(self._exchange, self._clock, stop, notify.watchdog_interval_s()),
            workers=until(stop, self._host.watch()),
            arena=until(stop, self._attach.serve()),
            pipeline=until(stop, self._pipeline.watch()),
            **({"oip": self._oip.run(stop)} if self._oip else {}),
        )

    def _remember_assignment(self) -> None:
        """Ack keys and intervals of the last verified assignment, so that acks are judged while the control plane is away."""
        raw = self._db.fact("director").get("assignment")
        assignment = parse(base64.b64decode(raw)) if raw else None
        if assignment and assignment.device == self._identity.device:
            self._exchange.assignment = assignment

    def _sources(self) -> status.Sources:
        return status.Sources(
            identity=self._identity,
            profile=self._profile,
            db=self._db,
            outbox=self._outbox,
            host=self._host,
            pipeline=self._pipeline,
            exchange=self._exchange,
            update=self._update,
            poll=self._poll,
            uplink=self._uplink,
            oip=self._oip,
        )

    def _renew(self) -> Identity:
        return self._control.renew(self._identity)

    def _renewed(self, identity: Identity) -> None:
        self._identity = identity
        self._outbox.key = identity.signing_key()
        self._http.reconnect()

    def _alarm(self, failed: SkerryError) -> None:
        """Each is logged; reported is the first of a code, and what follows with its count: a forger must not fill the report store."""
        self._log.alarm("uplink_alarm", code=failed.code, detail=str(failed))
        self._alarms.count(failed.code, str(failed))
        for told in self._alarms.due(self._clock.mono()):
            self._report.note(told.key, told.detail if told.count == 1 else f"{told.detail} ({told.count} times)")

    async def close(self) -> None:
        await self._pipeline.close()
        await self._host.close()
        self._outbox.close()
        self._http.close()
        self._db.close()


class LateTrust:
    """The `Trust` port, made at its first use."""

    def __init__(self, make: Callable[[], Trust]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: Trust | None = None

    def _get(self) -> Trust:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def poll(self) -> Assignment:
        return self._get().poll()

    def manifest(self, path: str, stopped: Callable[[], bool]) -> tuple[ImageTarget, bytes]:
        return self._get().manifest(path, stopped)


def host_settings(config: InferenceConfig, profile_spin_us: int) -> HostSettings:
    """A board's own setting wins over its profile's."""
    values = config.model_dump()
    return HostSettings(**{**values, "spin_us": profile_spin_us if config.spin_us is None else config.spin_us})


def _folders(config: AgentConfig) -> None:
    for folder in (config.state_dir, config.run_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


async def until(stop: asyncio.Event, endless: Awaitable[Any]) -> None:
    """Run what never returns until `stop`; its exception goes up."""
    task, stopped = asyncio.ensure_future(endless), asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()
    finally:
        task.cancel()
        stopped.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


async def run_all(stop: asyncio.Event, wake: Callable[[], None], **loops: Coroutine[Any, Any, None]) -> None:
    """All loops as named tasks until `stop`. The first exception stops the others and goes up: the supervisor starts anew."""
    tasks = [asyncio.get_running_loop().create_task(loop, name=name) for name, loop in loops.items()]
    tasks.append(asyncio.get_running_loop().create_task(_wake_at(stop, wake), name="stop"))
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    failed = next((task.exception() for task in done if task.exception()), None)
    stop.set()
    wake()
    await asyncio.gather(*tasks, return_exceptions=True)
    if failed:
        raise failed


async def _wake_at(stop: asyncio.Event, wake: Callable[[], None]) -> None:
    await stop.wait()
    wake()
