"""A control plane's parts over a real database, without processes: replicas, and a device as they see it.

`Site` is what replicas share (database, director's key, clock); `Replica` is one process's memory over it; `Reporter` is a
device that takes its assignment from any replica, carries it out, and sends each report again until it is acknowledged.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contracts.assignment import Assignment
from contracts.manifest import Manifest
from contracts.reports import Hello, ReportAnswer, ReportBatch
from contracts.states import State
from control_plane.adapters.director import Director, DirectorFiles, Settings
from control_plane.adapters.peer_certificate import Peer
from control_plane.services.accept_reports import accept_reports
from control_plane.services.desired_state import DesiredState
from control_plane.services.registry_view import RegistryView
from control_plane.services.unit_of_work import Units
from control_plane.store import desired, devices, releases
from control_plane.store.base import Database, make_engine
from control_plane.store.devices import DeviceRow
from control_plane.store.migrate import migrate
from control_plane.store.releases import ReleaseRow
from processing import latency
from tests.simulators.bundle_bytes import PROFILE, make_bundle
from tests.simulators.clock import SimulatedClock

LIFE_S = 86_400.0
# Compiled statements, which are kept by dialect: a new engine for every replica would compile them all again, which takes longest.
_COMPILED: dict[Any, Any] = {}
_DIALECT: dict[str, Any] = {}
DATABASE, KEY = "skerry.db", "director.pem"


def device_id(number: int) -> str:
    return "dev-" + "abcdefghijklmnopqrstuvwxyz"[number] * 26


class Replica:
    """One control-plane process's memory over the shared database."""

    def __init__(self, folder: Path, clock: SimulatedClock, life_s: float = LIFE_S) -> None:
        engine = make_engine(f"sqlite:///{folder / DATABASE}")
        engine.update_execution_options(compiled_cache=_COMPILED)
        engine.dialect = _DIALECT.setdefault("sqlite", engine.dialect)
        self.database = Database(engine)
        self.units = Units(self.database, clock)
        self.desired = DesiredState(self.units, Director(folder / KEY, Settings(life_s, 30, 30, 0)), clock)
        self.view = RegistryView(self.units, self.desired, clock)

    def poll(self, device: str) -> DirectorFiles:
        """As api/poll.py answers a device that does not know the newest version."""
        self.view.require_active(peer(device))
        return self.desired.prepare(device)

    def report(self, batch: ReportBatch) -> ReportAnswer:
        return accept_reports(self.units, batch.device, batch)

    def close(self) -> None:
        self.database.close()


def peer(device: str) -> Peer:
    return Peer("device", device, "", "f" * 64, SimulatedClock().utc() + timedelta(days=7))


@dataclass
class Site:
    """Devices with nothing to do and releases tiny-1 ... signed, in `folder`."""

    folder: Path
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    life_s: float = LIFE_S

    @classmethod
    def made(cls, folder: Path, device_count: int = 3, release_count: int = 2, life_s: float = LIFE_S) -> Site:
        site = cls(folder, life_s=life_s)
        key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / KEY).write_bytes(key)
        replica = site.replica()
        migrate(replica.database.engine)
        with replica.units.write() as work:
            for number in range(device_count):
                row = DeviceRow(id=device_id(number), state="ACTIVE", profile=PROFILE, created_utc=work.now, revision=0)
                work.session.add(row)
                devices.touch(work.session, row)
                desired.order(work.session, row.id, desired.NOTHING, work.now)
            for number in range(1, release_count + 1):
                _sign(work.session, number, work.now)
        replica.close()
        return site

    def replica(self) -> Replica:
        return Replica(self.folder, self.clock, self.life_s)

    def copy(self, folder: Path) -> Site:
        """The same at this moment; nobody may be writing."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if not path.name.endswith("-shm"):  # SQLite's locks and index: made anew from the log by whoever opens it
                shutil.copy(path, folder)
        return Site(folder, copy.copy(self.clock), self.life_s)


def _sign(session: Any, number: int, now: Any) -> None:
    bundle = make_bundle(number)
    manifest = Manifest.model_validate_json(bundle.manifest)
    version = manifest.model_version
    session.add(ReleaseRow(id=f"tiny-{number}", name="tiny", number=number, state="SIGNED", model_version=version, created_utc=now))
    session.flush()
    releases.add_signed(session, f"tiny-{number}", bundle.digest, bundle.manifest, manifest)


class Answering(Protocol):
    """The control plane as a device meets it: a replica in this process, or a real one by HTTPS."""

    def poll(self, device: str) -> DirectorFiles: ...

    def report(self, batch: ReportBatch) -> ReportAnswer: ...


@dataclass
class Issued:
    """What replicas gave out: one version of one device must never have two contents, and none lower than one before."""

    contents: dict[tuple[str, int], str] = field(default_factory=dict)
    last: dict[str, tuple[int, int]] = field(default_factory=dict)  # device -> (director version, generation)

    def note(self, device: str, files: DirectorFiles, order: Assignment) -> None:
        content = hashlib.sha256(b"".join(files.files[name] for name in sorted(files.files))).hexdigest()
        assert self.contents.setdefault((device, files.version), content) == content, f"{device}: version {files.version} issued twice"
        seen = files.version, order.desired_generation
        before = self.last.get(device, (0, 0))
        assert min(seen[0] - before[0], seen[1] - before[1]) >= 0, f"{device}: {seen} after {before}"
        self.last[device] = seen


@dataclass
class Reporter:
    """A device as the control plane sees it. `us`: latency of each bundle by digest; `faults`: digest -> state it ends in."""

    id: str
    issued: Issued = field(default_factory=Issued)
    us: dict[str, float] = field(default_factory=dict)
    faults: dict[str, State] = field(default_factory=dict)
    running: str = ""
    before: str = ""  # what ran before the present trial
    order: Assignment | None = None  # under way or carried out
    state: State = State.IDLE
    seq: dict[str, int] = field(default_factory=dict)
    unsent: list[dict[str, Any]] = field(default_factory=list)  # not acknowledged
    confirmed: list[str] = field(default_factory=list)  # digests that were CONFIRMED here, oldest first

    def poll(self, replica: Answering) -> Assignment:
        """Fetch the assignment, and carry it out as far as one poll interval goes."""
        files = replica.poll(self.id)
        found = Assignment.model_validate_json(files.files["assignment.json"])
        self.issued.note(self.id, files, found)
        if found.kind == "none":
            self._withdrawn()
        elif self.order is None or found.fence > self.order.fence:
            self._begin(found)
        elif found.fence == self.order.fence:
            self.order = found
        self._go_on()
        return found

    @property
    def target(self) -> str:
        return self.order.components[0].sha256 if self.order else ""

    def _withdrawn(self) -> None:
        if self.order and self.state in (State.DOWNLOADING, State.SHADOWING):
            self._tell(State.CANCELED)

    def _begin(self, found: Assignment) -> None:
        if self.state in (State.DOWNLOADING, State.SHADOWING):
            self._tell(State.SUPERSEDED)
        self.order = found
        self._tell(State.OFFERED)
        self._tell(State.DOWNLOADING)

    def _go_on(self) -> None:
        """One step: download, then shadow until told to activate, then probation, then its end."""
        if self.order is None:
            return
        if self.state is State.DOWNLOADING and not self.order.activate:
            self._tell(State.SHADOWING)
            self._window(shadow=True)
        elif self.state in (State.DOWNLOADING, State.SHADOWING) and self.order.activate:
            self._tell(State.ACTIVATING)
            self.running, self.before = self.target, self.running
            self._tell(State.PROBATION)
            self._window()
        elif self.state is State.PROBATION:
            self._end(self.faults.get(self.target, State.CONFIRMED))

    def _end(self, state: State) -> None:
        if state is State.CONFIRMED:
            self.confirmed.append(self.target)
        else:
            self.running = self.before
        self._tell(state)

    def _tell(self, state: State) -> None:
        self.state = state
        self.put(kind="transition", state=state.value, code="" if state is not State.REVERTED else "BUNDLE_LIMITS")

    def _window(self, shadow: bool = False) -> None:
        counts, frames = latency.empty(), 200
        counts[latency.bucket(self.us.get(self.target, 300.0))] = frames
        live = {"duration_s": 5, "frames": frames, "accepted_rows": frames, "refused": 0, "not_finite": 0, "latency": counts}
        pairs = {"shadow_digest": self.target, "pairs": frames, "agreed": frames, "shadow_latency": counts} if shadow else {}
        self.put(kind="window", probation=not shadow, **live, **pairs)

    def put(self, **report: Any) -> None:
        assert self.order is not None
        execution = self.order.execution
        self.seq[execution] = self.seq.get(execution, 0) + 1
        stamp = {"execution": execution, "fence": self.order.fence, "seq": self.seq[execution], "bundle_digest": self.running}
        self.unsent.append({**stamp, "boot_id": "boot", "mono_ms": 1, "utc": "2026-01-01T00:00:00Z", **report})

    def batch(self, some: list[dict[str, Any]]) -> ReportBatch:
        hello = Hello(agent_version="0.1.0", profile=PROFILE, running_digest=self.running)
        return ReportBatch.model_validate({"device": self.id, "hello": hello, "reports": some})

    def deliver(self, replica: Answering) -> None:
        """Send what is not acknowledged; forget what the answer acknowledges."""
        if self.unsent:
            accepted = replica.report(self.batch(self.unsent)).accepted
            self.unsent = [one for one in self.unsent if one["seq"] > accepted.get(one["execution"], 0)]


def reporters(count: int, issued: Issued) -> Iterator[Reporter]:
    return (Reporter(device_id(number), issued) for number in range(count))
