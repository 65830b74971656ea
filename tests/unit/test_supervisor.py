"""The supervisor on real processes: readiness, crash and back-off, watchdog, stop, kill switch, identity, children."""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
import textwrap
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest

from contracts.errors import LocalFaultError
from deploy.local.processes import Owner
from deploy.local.supervisor import RECORD, Program, Supervisor
from deploy.local.units import parse
from program.clock import SystemClock

DEADLINE_S = 20
PRELUDE = """
import os, signal, socket, subprocess, sys, threading
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
"""


def program(folder: Path, body: str, name: str = "x", owner: Owner | None = None, **lines: str) -> Program:
    """A program whose unit runs `body` (after PRELUDE) under this interpreter."""
    script = folder / "etc" / f"{name}.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(PRELUDE + textwrap.dedent(body))
    keys = {"Type": "notify", "Restart": "always", "RestartSec": "10ms", "TimeoutStartSec": "15", "TimeoutStopSec": "10", **lines}
    text = f"[Service]\nExecStart=/opt/skerry/python -S /etc/skerry/{name}.py\n" + "".join(
        f"{key}={value}\n" for key, value in keys.items()
    )
    (folder / "opt").mkdir(exist_ok=True)
    if not (folder / "opt" / "python").exists():
        (folder / "opt" / "python").symlink_to(os.path.realpath(sys.executable))
    return Program(name, parse(name, text), {"/opt/skerry": str(folder / "opt"), "/etc/skerry": str(folder / "etc")}, owner, folder)


def supervised(folder: Path, story: Callable[[Supervisor], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Supervisor(folder, SystemClock()) as supervisor:
            await story(supervisor)

    asyncio.run(main())


def test_ready_is_waited_for_and_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        supervisor.add(program(tmp_path, "say('READY=1\\nSTATUS=serving'); stop.wait(); say('STOPPING=1')"))
        event = await supervisor.start("x")
        assert (event.what, event.detail) == ("ready", "serving")
        await supervisor.stop("x")
        assert [event.what for event in supervisor.events] == ["start", "ready", "stopping", "exit"]
        assert supervisor.events[-1].returncode == 0
        assert supervisor.restarts() == {"x": 0}

    supervised(tmp_path, story)


def test_each_event_is_a_line_of_the_record_as_soon_as_it_is_one(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        supervisor.add(program(tmp_path, "say('READY=1'); stop.wait()", Restart="no"))
        await supervisor.start("x")
        supervisor.freeze("x")
        supervisor.kill("x")
        await supervisor.wait(lambda event: event.what == "exit", DEADLINE_S)
        lines = [json.loads(line) for line in (tmp_path / "logs" / RECORD).read_text().splitlines()]
        assert [line["what"] for line in lines] == ["start", "ready", "freeze", "kill", "exit"]
        for line, event in zip(lines, supervisor.events, strict=True):
            assert (line["no"], line["name"], line["pid"], line["detail"]) == (event.no, "x", event.pid, event.detail)
            assert datetime.fromisoformat(line["utc"]) == event.utc

    supervised(tmp_path, story)


def test_a_program_that_ends_before_ready_is_named_with_its_log(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        supervisor.add(program(tmp_path, "sys.exit('the disk is full')", RestartSec="5"))
        with pytest.raises(LocalFaultError, match="the disk is full") as failed:
            await supervisor.start("x")
        assert failed.value.code == "SETUP_PROGRAM_FAILED"

    supervised(tmp_path, story)


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        made = program(tmp_path, "")
        (tmp_path / "opt" / "python").unlink()
        supervisor.add(made)
        with pytest.raises(LocalFaultError, match="cannot be started"):
            await supervisor.start("x")

    supervised(tmp_path, story)


def test_a_killed_program_is_back_and_its_children_are_gone(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        body = """
        child = subprocess.Popen(["/bin/sleep", "300"])
        say(f"READY=1\\nSTATUS={child.pid}"); stop.wait()
        """
        supervisor.add(program(tmp_path, body))
        first = await supervisor.start("x")
        killed = supervisor.kill("x")
        again = await supervisor.wait(lambda event: event.what == "ready", DEADLINE_S, after=killed.no)
        assert again.pid != first.pid
        assert supervisor.restarts() == {"x": 1}
        ended = next(event for event in supervisor.events if event.what == "exit")
        assert (ended.returncode, ended.pid) == (-9, first.pid)
        assert _gone(int(first.detail))

    supervised(tmp_path, story)


def _gone(pid: int) -> bool:
    """True when `pid` has ended: no entry, or a zombie that its new parent has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


def test_quick_crashes_back_off(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        supervisor.add(program(tmp_path, "say('READY=1'); sys.exit(1)", RestartSec="20ms"))
        await supervisor.start("x")
        await supervisor.wait(lambda event: event.what == "start" and supervisor.restarts()["x"] == 4, DEADLINE_S)
        starts = [event.mono_s for event in supervisor.events if event.what == "start"]
        ends = [event.mono_s for event in supervisor.events if event.what == "exit"]
        waits = [start - end for start, end in zip(starts[1:], ends, strict=False)]
        assert all(wait >= 0.02 * 2**number for number, wait in enumerate(waits))

    supervised(tmp_path, story)


def test_a_silent_watchdog_is_killed_and_started_again(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        body = "say('READY=1'); assert os.environ['WATCHDOG_USEC'] == '300000'; say('WATCHDOG=1'); stop.wait()"
        supervisor.add(program(tmp_path, body, WatchdogSec="300ms"))
        await supervisor.start("x")
        ended = await supervisor.wait(lambda event: event.what == "exit", DEADLINE_S)
        assert ended.detail == "rc -9 (watchdog)"
        await supervisor.wait(lambda event: event.what == "ready", DEADLINE_S, after=ended.no)

    supervised(tmp_path, story)


def test_a_program_that_is_never_ready_is_killed(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        supervisor.add(program(tmp_path, "stop.wait()", TimeoutStartSec="300ms"))
        with pytest.raises(LocalFaultError, match="start timeout"):
            await supervisor.start("x")

    supervised(tmp_path, story)


def test_one_that_ignores_sigterm_is_killed_after_its_time(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('READY=1'); stop.wait()"
        supervisor.add(program(tmp_path, body, TimeoutStopSec="200ms"))
        await supervisor.start("x")
        await supervisor.stop("x")
        assert supervisor.events[-1].returncode == -9

    supervised(tmp_path, story)


def test_only_the_main_process_is_listened_to(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> None:
        body = """
        talk = "import os,socket;socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])"
        subprocess.run([sys.executable, "-S", "-c", talk], check=True)
        print("the child has spoken", flush=True)
        say('READY=1\\nSTATUS=main'); stop.wait()
        """
        supervisor.add(program(tmp_path, body))
        event = await supervisor.start("x")
        assert event.detail == "main"
        assert "the child has spoken" in supervisor.log_path("x").read_text()

    supervised(tmp_path, story)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: another uid is only to be had by root")
def test_root_gives_each_program_its_own_numbers(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp/"):  # pytest's folders are private
            folder.chmod(folder.stat().st_mode | 0o055)

    async def story(supervisor: Supervisor) -> None:
        body = "say(f'READY=1\\nSTATUS={os.getuid()} {os.getgid()} {os.getgroups()} {os.umask(0):o} {sorted(os.environ)}'); stop.wait()"
        supervisor.add(program(tmp_path, body, owner=Owner(59_990, 59_991, (59_992,)), UMask="0027"))
        event = await supervisor.start("x")
        assert event.detail.startswith("59990 59991 [59992] 27 ")
        assert event.detail.endswith("['HOME', 'LANG', 'LOGNAME', 'NOTIFY_SOCKET', 'PATH', 'USER']")

    supervised(tmp_path, story)


def test_programs_end_with_their_supervisor(tmp_path: Path) -> None:
    """The supervisor itself is killed: its programs must not stay behind."""
    made = program(tmp_path, "open(sys.argv[0] + '.pid', 'w').write(str(os.getpid())); say('READY=1'); stop.wait()")
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio, os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.unit.test_supervisor import program, supervised
        async def story(supervisor):
            supervisor.add(program(Path({str(tmp_path)!r}), Path({str(tmp_path / "etc" / "body.txt")!r}).read_text()))
            await supervisor.start("x")
            os.kill(os.getpid(), signal.SIGKILL)
        supervised(Path({str(tmp_path)!r}), story)
        """)
    )
    (tmp_path / "etc" / "body.txt").write_text((tmp_path / "etc" / "x.py").read_text().removeprefix(PRELUDE))

    async def main() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, str(script))
        return await asyncio.wait_for(process.wait(), DEADLINE_S)

    assert asyncio.run(main()) == -9
    pid = int((tmp_path / "etc" / "x.py.pid").read_text())
    descriptor = _pidfd(pid)
    if descriptor is not None:
        _wait_readable(descriptor)
    assert _gone(pid)
    assert made.name == "x"


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _wait_readable(descriptor: int) -> None:
    try:
        assert select.select([descriptor], [], [], DEADLINE_S)[0]
    finally:
        os.close(descriptor)
