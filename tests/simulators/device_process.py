"""A device that can be killed: the agent's own loops, agent.db and slots on a real folder, each life in a process of its own.

`python -m tests.simulators.device_process` waits for lives on its standard input and forks one for each, so that a life costs
milliseconds; `Lives` is its other end. Under strace every life is recorded, for power_cut.py.
"""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, cast

from contracts.errors import SkerryError, error
from contracts.manifest import Manifest
from contracts.states import State
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.adapters.blobs import BlobClient, StoppedError
from edge_agent.adapters.http import Answer, Http
from edge_agent.adapters.slot_dirs import SlotDirs
from edge_agent.core.floors import Floors, with_versions
from edge_agent.core.orders import Order
from edge_agent.core.record import Record, to_json
from edge_agent.core.update import Work
from edge_agent.loops.works import Works
from edge_agent.ports import Draft, WorkerDeath
from tests.simulators.bundle_bytes import BundleBytes, make_bundle
from tests.simulators.device import Device, SimTrust, settled
from tests.simulators.syscalls import STRACE, Call, read

BASE = make_bundle(1, model=b"first")
OLD = make_bundle(2, model=b"old model " * 9000)  # of two chunks
NEW = make_bundle(3, model=b"new model " * 9000)
BUNDLES = {bundle.digest: bundle for bundle in (BASE, OLD, NEW)}
SPEED = 20.0  # deadlines and back-off of the agent pass that much faster
STUCK_S = 4.0  # of the agent's time
BITE_S = 1.0  # of real time: so long the supervisor waits for a sign of life
LIMIT_S = 60  # of real time, for one life

What = Literal["transient", "refused", "fault", "hang", "deaf", "kill", "power cut"]


@dataclass(frozen=True)
class Strike:
    """What happens to the work of a state, after its effect and before its outcome is known: `times` in each life.

    transient, refused, fault: an error of that class. hang: until asked to stop; deaf: even then.
    """

    state: State
    what: What
    times: int = 1


@dataclass(frozen=True)
class Life:
    """`began_s`: when the story began, by time.time(). An order that is to shadow is told to activate once both models get frames."""

    order: Order | None = None
    strike: Strike | None = None
    not_finite: int = 0
    circuit_opens: bool = False
    deadly: str = ""  # the digest of a model that takes the machine down when it is loaded at start
    enough: int = 1_000_000  # strikes after which the life may end as it is
    began_s: float = field(default_factory=time.time)


class HurriedClock:
    """program.clock.Clock, of which each second lasts a fraction of one. Goes on over lives."""

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self._began_s + (time.time() - self._began_s) * SPEED, timezone.utc)

    def mono(self) -> float:
        return time.monotonic() * SPEED

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        waiter = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({waiter}, timeout=seconds / SPEED)
            return event.is_set()
        finally:
            waiter.cancel()


class Shop:
    """Serves members by their digest, as the control plane does; `Http` as far as `BlobClient` uses it."""

    def __init__(self) -> None:
        self._blobs = {digest: data for bundle in BUNDLES.values() for digest, data in bundle.blobs.items()}

    @contextmanager
    def stream(
        self, method: str, url: str, *, headers: dict[str, str] | None, deadline_s: float
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        data = self._blobs[url.rpartition("/")[2]]
        start = int(headers["Range"].removeprefix("bytes=").rstrip("-")) if headers else 0
        status = HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK
        yield Answer(int(status), {}, b""), (data[at : at + 16384] for at in range(start, len(data), 16384))


class RealDisk:
    """device.World on a folder: what a power cut leaves is really what it leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.trust = folder, folder / "agent.db", SimTrust(*BUNDLES.values())
        self.load_faults: dict[str, SkerryError] = {}
        self.us, self.not_finite = 100.0, 0

    @cached_property
    def slots(self) -> SlotDirs:
        fetch = BlobClient(cast(Http, Shop()), "https://control/blobs", 60.0).fetch
        return Witnessed(self.folder / "slots", fetch, _accept, 0)


def _accept(manifest: Manifest, model_sig: bytes, provenance: bytes) -> None:
    assert model_sig


def whole(slot: Path, bundle: BundleBytes) -> bool:
    """Judged here, not by the agent: the slot holds the bundle's bytes and nothing else."""
    files = {path.name: path.read_bytes() for path in slot.iterdir()} if slot.is_dir() else {}
    return files == {**bundle.members, "manifest.json": bundle.manifest}


# -- what was promised, and when: one line each, in the middle of the recording


def promises_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".promises")


_promises: int | None = None


def _promise(**what: Any) -> None:
    if _promises is not None:
        os.write(_promises, base64.b64encode(pickle.dumps(what)) + b"\n")


class WitnessedDb(AgentDb):
    """The real one; says when a call has returned, for that is the promise."""

    def save(self, record: Record, reports: Sequence[Draft] = ()) -> None:
        super().save(record, reports)
        _promise(record=to_json(record), reports=len(self.pending(1000)))

    def set_floors(self, floors: Floors) -> None:
        super().set_floors(floors)
        _promise(floors=self.floors())


class Witnessed(SlotDirs):
    def activate(self, digest: str) -> None:
        super().activate(digest)
        _promise(current=digest)


# -- one life


class StruckWorks(Works):
    strike: Strike | None = None
    struck = 0
    deadly = ""

    def __init__(self, **ports: Any) -> None:
        super().__init__(**ports)
        self.finished: set[State] = set()

    async def run(self, work: Work, record: Record) -> None:
        await super().run(work, record)
        if self.strike is not None and self.strike.state is record.state and self.struck < self.strike.times:
            await self._fall(self.strike)
        self.finished.add(record.state)

    async def _fall(self, strike: Strike) -> None:
        self.struck += 1
        if strike.what in ("kill", "power cut"):  # the process is gone either way; what is left of its files is the test's to choose
            os.kill(os.getpid(), signal.SIGKILL)
        if strike.what in ("hang", "deaf"):
            await self._hang(deaf=strike.what == "deaf")
        raise error({"transient": "TUF_UNREACHABLE", "refused": "BUNDLE_GOLDEN", "fault": "WORKER_START"}[strike.what])

    async def _hang(self, *, deaf: bool) -> None:
        """Until asked to stop; `deaf`: then too."""
        if deaf:
            await asyncio.Event().wait()
        await asyncio.to_thread(self.stopping.wait)
        raise StoppedError

    async def restore(self, record: Record) -> None:
        if self.deadly and self.deadly == record.live:
            os.kill(os.getpid(), signal.SIGKILL)
        await super().restore(record)


def live(state: Path, life: Life) -> int:
    """In a process of its own: 0 when all is settled, 2 when a loop gave up."""
    disk = RealDisk(state)
    disk.not_finite = life.not_finite
    device = Device(disk, db=WitnessedDb, works=StruckWorks, clock=HurriedClock(life.began_s), stuck_s=STUCK_S)
    assert isinstance(device.works, StruckWorks)
    device.works.strike, device.works.deadly = life.strike, life.deadly
    try:
        asyncio.run(_watched(device, life))
    except RuntimeError as given_up:
        print(f"life ended: {given_up!r}", file=sys.stderr)
        return 2
    return 0


async def _watched(device: Device, life: Life) -> None:
    watchdog = asyncio.ensure_future(_bite(device))
    if life.order is not None:  # what the TUF client does with metadata that it has verified
        device.db.set_floors(with_versions(device.db.floors(), {"director/timestamp": life.order.generation}))
    if life.circuit_opens:
        device.workers.deaths.put_nowait(WorkerDeath(device.update.record.confirmed, -9, circuit_open=True))
    try:
        await device.live(lambda device: _over(device, life), life.order, LIMIT_S)
    finally:
        watchdog.cancel()


def _over(device: Device, life: Life) -> bool:
    record, works = device.update.record, device.works
    assert isinstance(works, StruckWorks)
    if life.order is not None and record.state is State.SHADOWING and State.SHADOWING in works.finished and not record.activate:
        device.exchange.order = replace(life.order, generation=life.order.generation + 1, activate=True)
        device.exchange.update_wanted.set()
    began = life.order is None or record.execution == life.order.execution
    over = began and (not life.circuit_opens or record.local) and record.state in works.finished and settled(device)
    return over or works.struck >= life.enough


async def _bite(device: Device) -> None:
    """The supervisor's watchdog: no pass of the update loop for so long, and the process is killed."""
    seen, since = -1, time.monotonic()
    while True:
        await asyncio.sleep(0.05)
        passes = device.exchange.passes.get("update", 0)
        if passes != seen:
            seen, since = passes, time.monotonic()
        elif seen and time.monotonic() - since > BITE_S:
            os.kill(os.getpid(), signal.SIGKILL)


# -- the process that forks lives, and its other end


def main() -> None:
    for line in sys.stdin.buffer:
        state, life = pickle.loads(base64.b64decode(line))
        child = os.fork()
        if child == 0:
            os._exit(_begin(state, life))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _begin(state: Path, life: Life) -> int:
    global _promises  # noqa: PLW0603 - the process is this life's alone
    signal.alarm(LIMIT_S)
    _promises = os.open(promises_of(state), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        return live(state, life)
    except BaseException as broken:
        sys.excepthook(type(broken), broken, broken.__traceback__)
        return 1


class Lives:
    """`recording`: where strace writes; None: without it."""

    def __init__(self, recording: Path | None = None) -> None:
        self._recording, self._read = recording, 0
        if recording:
            recording.touch()
        command = [sys.executable, "-m", "tests.simulators.device_process"]
        traced = [*STRACE, "-o", str(recording), *command] if recording else command
        self._process = subprocess.Popen(traced, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def live(self, state: Path, life: Life) -> int:
        """Exit code of the life: 0 settled, -9 killed, 2 given up by itself. AssertionError for any other."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(base64.b64encode(pickle.dumps((state, life))) + b"\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline() or b"1")
        assert code in (0, -signal.SIGKILL, 2), f"the agent ended with {code}: see its last words above"
        return code

    def calls(self) -> list[Call]:
        """What was recorded since the last time."""
        assert self._recording
        with self._recording.open() as log:
            log.seek(self._read)
            lines = log.readlines()
            self._read = log.tell()
        return list(read(lines))

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


if __name__ == "__main__":
    main()
