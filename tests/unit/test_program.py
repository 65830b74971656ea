"""The frame of every program: it says when it is ready, ends on SIGTERM with 0, logs in JSON, and leaves whole files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from program import notify
from program.clock import SystemClock
from program.files import write_durably

REPO = Path(__file__).resolve().parents[2]
DEADLINE_S = 20

PROGRAM = """
import asyncio, sys
from contracts.errors import error
from program import log, notify
from program.config import Config
from program.run import arguments, run

async def main(config, stop):
    if {fails!r}:
        raise error("SETUP_PORT_BUSY", "127.0.0.1:1")
    log.Log("example", device_id="dev-x")("example_started", batch_seq=7)
    notify.ready("serving")
    await stop.wait()

raise SystemExit(run("skerry-example", Config, arguments("skerry-example", "an example", "/nowhere").parse_args(), main))
"""


@contextmanager
def notify_socket(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "notify"))
        listener.settimeout(DEADLINE_S)
        yield listener


def started(folder: Path, *, fails: bool = False, toml: str = "") -> subprocess.Popen[str]:
    config = folder / "example.toml"
    config.write_text(toml)
    command = [
        sys.executable,
        "-c",
        PROGRAM.format(fails=fails),
        "--config",
        str(config),
        "--state-dir",
        str(folder),
        "--run-dir",
        str(folder),
    ]
    environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
    return subprocess.Popen(command, cwd=REPO, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_program_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with notify_socket(tmp_path) as listener, started(tmp_path) as process:
        assert listener.recv(1024) == b"READY=1\nSTATUS=serving"
        process.send_signal(number)
        assert listener.recv(1024) == b"STOPPING=1"
        _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    line = json.loads(log.splitlines()[0])
    assert {key: line[key] for key in ("level", "program", "event", "device_id", "batch_seq")} == {
        "level": "info",
        "program": "skerry-example",
        "event": "example_started",
        "device_id": "dev-x",
        "batch_seq": 7,
    }


def test_a_known_error_at_start_is_said_with_its_remedy(tmp_path: Path) -> None:
    with notify_socket(tmp_path), started(tmp_path, fails=True) as process:
        _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "SETUP_PORT_BUSY: 127.0.0.1:1" in log
    assert "remedy: stop the program named" in log
    assert "see: docs/reference/errors.md#setup_port_busy" in log
    assert "Traceback" not in log


def test_an_unknown_key_ends_the_start_with_its_name(tmp_path: Path) -> None:
    with notify_socket(tmp_path), started(tmp_path, toml="stat_dir = '/x'") as process:
        _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "CONFIG_INVALID" in log
    assert "stat_dir" in log


def test_usage_errors_have_a_code_of_their_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(fails=False), "--no-such-option"],
        check=False,
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 2


# -- sd_notify


@contextmanager
def variables(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def test_without_a_supervisor_nothing_is_sent() -> None:
    assert "NOTIFY_SOCKET" not in os.environ
    notify.ready()
    notify.watchdog()
    assert notify.watchdog_interval_s() is None


def test_an_abstract_socket_is_reached() -> None:
    name = f"skerry-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, variables(NOTIFY_SOCKET=f"@{name}"):
        listener.bind("\0" + name)
        listener.settimeout(DEADLINE_S)
        notify.watchdog()
        assert listener.recv(64) == b"WATCHDOG=1"


def test_the_watchdog_is_fed_at_half_its_time() -> None:
    with variables(WATCHDOG_USEC="3000000"):
        assert notify.watchdog_interval_s() == 1.5


# -- durable files

WRITER = """
import os, sys
from pathlib import Path
import program.files as files
step, path = sys.argv[1], Path(sys.argv[2])
def die(*_):
    os._exit(9)
if step == "before_rename":
    os.rename = die
elif step == "before_fsync":
    os.fsync = die
elif step == "after_rename":
    files.fsync_folder = die
files.write_durably(path, b"new" * 1000, 0o600)
"""


@pytest.mark.parametrize(
    ("step", "content"),
    [("before_fsync", b"old"), ("before_rename", b"old"), ("after_rename", b"new" * 1000), ("never", b"new" * 1000)],
)
def test_a_writer_that_dies_leaves_the_old_file_or_the_new_one(tmp_path: Path, step: str, content: bytes) -> None:
    path = tmp_path / "record"
    write_durably(path, b"old")
    died = subprocess.run([sys.executable, "-c", WRITER, step, str(path)], cwd=REPO, timeout=DEADLINE_S, check=False)
    assert died.returncode == (0 if step == "never" else 9)
    assert path.read_bytes() == content


ORDER = """
import os, sys
from pathlib import Path
from program.files import write_durably

def traced(name):
    real = getattr(os, name)
    def call(*args, **more):
        print(name)
        return real(*args, **more)
    setattr(os, name, call)

for name in ("write", "fchmod", "fsync", "rename"):
    traced(name)
write_durably(Path(sys.argv[1]), b"x", 0o600)
"""


def test_content_is_on_disk_before_it_has_its_name_and_the_name_after(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORDER, str(tmp_path / "record")]
    done = subprocess.run(command, cwd=REPO, timeout=DEADLINE_S, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["fchmod", "write", "fsync", "rename", "fsync"]


def test_what_a_dead_writer_left_aside_does_not_stop_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "record"
    (tmp_path / f".record.{os.getpid()}.tmp").write_bytes(b"half" * 1000)
    write_durably(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["record"]


def test_a_file_has_its_mode_before_it_has_its_name(tmp_path: Path) -> None:
    write_durably(tmp_path / "key", b"secret", 0o600)
    write_durably(tmp_path / "public", b"x")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o644


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / f".record.{os.getpid()}.tmp").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        write_durably(tmp_path / "record", b"x")
    assert victim.read_bytes() == b"untouched"


# -- clock


def test_waiting_ends_with_the_event_or_with_the_time() -> None:
    async def story() -> tuple[bool, bool]:
        clock, event = SystemClock(), asyncio.Event()
        early = await clock.wait(event, 0.001)
        event.set()
        return early, await clock.wait(event, DEADLINE_S)

    assert asyncio.run(story()) == (False, True)


def test_clocks_have_a_zone_and_never_go_back() -> None:
    clock = SystemClock()
    assert clock.utc().tzinfo is not None
    assert clock.mono() <= clock.mono()
