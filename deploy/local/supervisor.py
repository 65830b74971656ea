"""Starts programs as systemd would, where there is no systemd: tests, the demo, "try it". The code path is the production one.

- The command is the unit file's ExecStart, with /opt/skerry and /etc/skerry mapped to other folders.
- A real NOTIFY_SOCKET, one per program; a datagram counts only when its sender is the program's main process.
- A session (and so a process group) of its own per program; what is left of the group when the main process ends is killed.
- Own uid, gid and umask where the supervisor is root. stdout and stderr go to `logs/<name>.log`.
- Children end with the supervisor, whatever ends it (parent-death signal).
- What to do is decided in supervision.py; here are the effects only: one event loop, no threads.

Every change is an Event with a dense number, monotonic and UTC time; who waits for something waits for an event. Each is also a JSON line
of `logs/supervisor.jsonl`, for who looks later.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from contracts.errors import error
from deploy.local import supervision
from deploy.local.processes import Owner, ended, environment
from deploy.local.supervision import Run
from deploy.local.units import Unit, mapped
from program.clock import Clock

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_prctl = ctypes.CDLL(None).prctl  # looked up before any fork
_PR_SET_PDEATHSIG = 1
LINE_LIMIT = 400  # characters of a log line that are shown; a traceback's end says more than its beginning
EXIT_NOT_STARTED = 127  # as a shell says it
RECORD = "supervisor.jsonl"


@dataclass(frozen=True)
class Program:
    """`owner` None: run as the caller. `folders` map production folders to those used here."""

    name: str
    unit: Unit
    folders: Mapping[str, str]
    owner: Owner | None
    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def argv(self) -> tuple[str, ...]:
        return mapped(self.unit.argv, self.folders)


@dataclass(frozen=True)
class Event:
    no: int
    name: str
    what: str  # start, ready, stopping, exit, kill, freeze
    mono_s: float
    utc: datetime
    pid: int
    detail: str = ""
    returncode: int | None = None


class _Kept:
    """A program and what the supervisor knows of it now."""

    def __init__(self, program: Program, notify: socket.socket, log: Path) -> None:
        self.program, self.notify, self.log = program, notify, log
        self.process: subprocess.Popen[bytes] | None = None
        self.run = Run(0.0)
        self.spoke = asyncio.Event()  # a datagram came
        self.asked = asyncio.Event()  # told to stop
        self.task: asyncio.Task[None] | None = None
        self.restarts = 0


class Supervisor:
    """`folder` gets `notify/` and `logs/`. Use `async with supervisor:`; leaving stops everything, in order."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._notify_folder, self._logs = folder / "notify", folder / "logs"
        self._record = self._logs / RECORD
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self.events: list[Event] = []

    async def __aenter__(self) -> Supervisor:
        for made in (self._notify_folder, self._logs):
            made.mkdir(parents=True, exist_ok=True)
            made.chmod(0o755)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_all()

    # -- what a caller does

    def add(self, program: Program) -> None:
        notify = _notify_socket(self._notify_folder / f"{program.name}.sock", program.owner)
        kept = _Kept(program, notify, self._logs / f"{program.name}.log")
        self._kept[program.name] = kept
        asyncio.get_running_loop().add_reader(notify, self._heard, kept)

    async def start(self, name: str) -> Event:
        """Start and wait for READY. Raises LocalFaultError SETUP_PROGRAM_FAILED, with the log's path, when it ends or is too late."""
        kept, seen = self._kept[name], len(self.events)
        kept.asked.clear()
        kept.task = asyncio.create_task(self._keep_running(kept), name=f"keep {name}")
        event = await self.wait(
            lambda event: event.name == name and event.what in ("ready", "exit"), kept.program.unit.start_timeout_s + 5, after=seen
        )
        if event.what == "exit":
            await self.stop(name)
            raise error("SETUP_PROGRAM_FAILED", name, f"{event.detail}; log: {kept.log}\n{tail(kept.log)}")
        return event

    async def stop(self, name: str) -> None:
        """SIGTERM to the main process, SIGKILL to the group after TimeoutStopSec; returns when it has ended."""
        kept = self._kept[name]
        kept.asked.set()
        if kept.task is not None:
            await kept.task
            kept.task = None

    async def stop_all(self) -> None:
        for name in supervision.stop_order({name: kept.program.unit for name, kept in self._kept.items()}):
            await self.stop(name)
        for kept in self._kept.values():
            asyncio.get_running_loop().remove_reader(kept.notify)
            kept.notify.close()
        self._kept.clear()

    def kill(self, name: str) -> Event:
        """The kill switch: SIGKILL to the main process, now. It is restarted by its unit's rule."""
        kept = self._kept[name]
        process = _running(kept)
        event = self._tell(kept, "kill", process.pid, "SIGKILL")
        process.kill()
        return event

    def freeze(self, name: str) -> int:
        """SIGSTOP the main process, so that what it has in flight stays in flight until `kill`; its pid."""
        kept = self._kept[name]
        pid = _running(kept).pid
        self._tell(kept, "freeze", pid, "SIGSTOP")
        os.kill(pid, signal.SIGSTOP)
        return pid

    def thaw(self, name: str) -> None:
        """A frozen process that turned out to have nothing in flight goes on."""
        os.kill(_running(self._kept[name]).pid, signal.SIGCONT)

    async def wait(self, wanted: Callable[[Event], bool], deadline_s: float, after: int = 0) -> Event:
        """The first event from number `after` on that is wanted; TimeoutError after `deadline_s`."""
        seen = after
        async with asyncio.timeout(deadline_s):
            while True:
                for event in self.events[seen:]:
                    if wanted(event):
                        return event
                seen = len(self.events)
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    def pid(self, name: str) -> int:
        return _running(self._kept[name]).pid

    def pids(self) -> dict[str, int]:
        return {name: kept.process.pid for name, kept in self._kept.items() if kept.process is not None}

    def restarts(self) -> dict[str, int]:
        return {name: kept.restarts for name, kept in self._kept.items()}

    def log_path(self, name: str) -> Path:
        return self._kept[name].log

    def program(self, name: str) -> Program:
        return self._kept[name].program

    # -- one program's life

    async def _keep_running(self, kept: _Kept) -> None:
        quick_ends = 0
        while True:
            kept.run = Run(self._clock.mono(), quick_ends=quick_ends)
            returncode = await self._one_run(kept)
            now_s = self._clock.mono()
            again = supervision.after_end(kept.program.unit, kept.run, now_s, returncode, kept.asked.is_set())
            quick_ends = again.quick_ends
            if again.delay_s is None or await self._clock.wait(kept.asked, again.delay_s):
                return
            kept.restarts += 1

    async def _one_run(self, kept: _Kept) -> int:
        try:
            process = kept.process = self._spawn(kept)
        except OSError as failed:
            self._tell(kept, "exit", 0, f"cannot be started: {failed}", EXIT_NOT_STARTED)
            return EXIT_NOT_STARTED
        self._tell(kept, "start", process.pid)
        if not kept.program.unit.notify:
            self._ready(kept)
        async with ended(process) as end:
            why = await self._watch(kept, end)
            if not end.is_set():
                await self._end(kept, process, end, why)
        _kill_group(process.pid)
        returncode = process.wait()
        kept.process = None
        why = why or ("" if returncode >= 0 else signal.Signals(-returncode).name)
        self._tell(kept, "exit", process.pid, f"rc {returncode}" + (f" ({why})" if why else ""), returncode)
        return returncode

    async def _watch(self, kept: _Kept, end: asyncio.Event) -> str:
        """Until it has ended, is told to stop, or is overdue: then the reason why it has to be killed."""
        while not (end.is_set() or kept.asked.is_set()):
            now_s = self._clock.mono()
            if why := supervision.overdue(kept.program.unit, kept.run, now_s):
                return why
            due_s = supervision.deadline_s(kept.program.unit, kept.run)
            kept.spoke.clear()
            await _first((end, kept.asked, kept.spoke), None if due_s is None else max(0.0, due_s - now_s))
        return ""

    async def _end(self, kept: _Kept, process: subprocess.Popen[bytes], end: asyncio.Event, why: str) -> None:
        if why:
            self._tell(kept, "kill", process.pid, why)
        else:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a frozen one has to be able to hear it
            if await self._clock.wait(end, kept.program.unit.stop_timeout_s):
                return
        _kill_group(process.pid)
        await end.wait()

    def _spawn(self, kept: _Kept) -> subprocess.Popen[bytes]:
        program, owner = kept.program, kept.program.owner
        with kept.log.open("ab") as log:
            return subprocess.Popen(
                program.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=self._environment(kept),
                start_new_session=True,
                umask=program.unit.umask,
                user=owner.uid if owner else None,
                group=owner.gid if owner else None,
                extra_groups=owner.groups if owner else None,
                # runs after the change of uid, which would clear it; this process has no threads
                preexec_fn=_end_with_parent,  # noqa: PLW1509
            )

    def _environment(self, kept: _Kept) -> dict[str, str]:
        program, watchdog_s = kept.program, kept.program.unit.watchdog_s
        spoken = {"NOTIFY_SOCKET": str(kept.notify.getsockname())}
        if watchdog_s is not None:
            spoken["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        return environment(program.home, program.unit.user, {**dict(program.unit.environment), **spoken, **program.environment})

    # -- what a program says

    def _heard(self, kept: _Kept) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = kept.notify.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
                if kept.process is not None and _sender(ancillary) == kept.process.pid:
                    self._said(kept, data.decode(errors="replace").splitlines())

    def _said(self, kept: _Kept, lines: list[str]) -> None:
        if "READY=1" in lines and kept.run.ready_s is None:
            self._ready(kept, next((line.removeprefix("STATUS=") for line in lines if line.startswith("STATUS=")), ""))
        if "WATCHDOG=1" in lines:
            kept.run = replace(kept.run, fed_s=self._clock.mono())
        if "STOPPING=1" in lines and kept.process is not None:
            self._tell(kept, "stopping", kept.process.pid)
        kept.spoke.set()

    def _ready(self, kept: _Kept, status: str = "") -> None:
        now_s = self._clock.mono()
        kept.run = replace(kept.run, ready_s=now_s, fed_s=now_s)
        self._tell(kept, "ready", _running(kept).pid, status)

    def _tell(self, kept: _Kept, what: str, pid: int, detail: str = "", returncode: int | None = None) -> Event:
        event = Event(len(self.events), kept.program.name, what, self._clock.mono(), self._clock.utc(), pid, detail, returncode)
        self.events.append(event)
        with self._record.open("a") as record:
            record.write(json.dumps(asdict(event), default=str) + "\n")
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return event


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for a message to a person."""
    with contextlib.suppress(OSError):
        return "\n".join(
            f"    | {line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT // 4] + ' ... ' + line[-LINE_LIMIT:]}"
            for line in log.read_text(errors="replace").splitlines()[-lines:]
        )
    return ""


def _notify_socket(path: Path, owner: Owner | None) -> socket.socket:
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    path.unlink(missing_ok=True)
    notify.bind(str(path))
    notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    path.chmod(0o600)
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)
    return notify


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return int(_CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0])
    return -1


def _running(kept: _Kept) -> subprocess.Popen[bytes]:
    if kept.process is None:
        raise error("SETUP_PROGRAM_FAILED", kept.program.name, f"is not running; log: {kept.log}")
    return kept.process


def _end_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


async def _first(events: tuple[asyncio.Event, ...], deadline_s: float | None) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
