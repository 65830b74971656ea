"""The signer as a process, over its socket: who may call, what hostile callers get, renewal by its own timer, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from contracts.release import SIGNER_MAX_BYTES
from control_plane.ceremony.layout import Owner
from control_plane.signer.repository import Repository
from tests.simulators.release_line import PROFILES, ReleaseLine, ask, read_answer

AS_ROOT = os.geteuid() == 0
SIGNER_UID, CONTROL_UID, STRANGER_UID = (47101, 47102, 47103) if AS_ROOT else (os.geteuid(),) * 3
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root: runs processes as several users")
DEADLINE_S = 20


@pytest.fixture
def line(open_folder: Path) -> ReleaseLine:
    owners = (("signer", Owner(SIGNER_UID, SIGNER_UID)), ("control", Owner(CONTROL_UID, CONTROL_UID))) if AS_ROOT else ()
    line = ReleaseLine.make(open_folder, owners, datetime.now(timezone.utc))
    (open_folder / "run").mkdir()
    if AS_ROOT:
        for path, uid in (("run", SIGNER_UID), ("signer-state", SIGNER_UID), ("blobs", CONTROL_UID)):
            os.chown(open_folder / path, uid, uid)
    return line


def write_config(line: ReleaseLine, **changed: Any) -> Path:
    config = line.config(allowed_uids=(CONTROL_UID,), **changed)
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in config if value is not None}
    path = line.site.folder.parent / "signer.toml"
    path.write_text("\n".join(f"{name} = {json.dumps(value, default=str)}" for name, value in values.items()))
    return path


@contextmanager
def running(line: ReleaseLine, **changed: Any) -> Iterator[subprocess.Popen[str]]:
    """The signer under its own user; ready when it said so on its NOTIFY_SOCKET."""
    base = line.site.folder.parent
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        address = base / "notify"
        address.unlink(missing_ok=True)
        notify.bind(str(address))
        address.chmod(0o666)
        notify.settimeout(DEADLINE_S)
        program = subprocess.Popen(
            [sys.executable, "-m", "control_plane.signer", "--config", str(write_config(line, **changed))],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "NOTIFY_SOCKET": str(address)}, user=SIGNER_UID, group=SIGNER_UID,
        )  # fmt: skip
        try:
            assert b"READY=1" in notify.recv(4096)
            yield program
        finally:
            program.kill()
            program.communicate()


def socket_of(line: ReleaseLine) -> Path:
    return line.site.folder.parent / "run" / "signer.sock"


ASK = """
import sys
from pathlib import Path
from tests.simulators.release_line import ask
print(ask(Path(sys.argv[1]), sys.stdin.buffer.read()))
"""


def ask_as(uid: int, line: ReleaseLine, data: bytes) -> str:
    """The answer that a process of user `uid` gets."""
    caller = subprocess.run([sys.executable, "-c", ASK, str(socket_of(line))], input=data, capture_output=True, user=uid, check=True)
    return caller.stdout.decode()


@needs_root
def test_the_control_planes_user_is_served_and_every_other_is_not(line: ReleaseLine) -> None:
    request = line.request().model_dump_json().encode()
    with running(line):
        assert "SIGNER_PEER" in ask_as(STRANGER_UID, line, request)
        assert ask(socket_of(line), request)["code"] == "SIGNER_PEER", "root is on no list"
        assert "'ok': True" in ask_as(CONTROL_UID, line, request)
    assert Repository(line.site.image).versions()["timestamp"] == 2


@pytest.fixture
def served(line: ReleaseLine) -> Iterator[ReleaseLine]:
    """A signer that serves this process's own user."""
    global CONTROL_UID  # noqa: PLW0603
    kept, CONTROL_UID = CONTROL_UID, os.geteuid()
    with running(line):
        yield line
    CONTROL_UID = kept


def test_hostile_frames_are_answered_or_cut_and_the_signer_goes_on(served: ReleaseLine) -> None:
    path = socket_of(served)
    for data in (b"{}", b"\0" * 100, b'{"op":"sign_everything"}', b"[" * 900_000):
        assert ask(path, data)["code"] == "SIGNER_REQUEST"
    for claimed in (0, SIGNER_MAX_BYTES + 1, 0xFFFFFFFF):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(DEADLINE_S)
            peer.connect(str(path))
            peer.sendall(struct.pack("<I", claimed))
            assert read_answer(peer)["code"] == "SIGNER_REQUEST"
            peer.shutdown(socket.SHUT_WR)
            assert read_answer(peer) == {}, "and is hung up on"
    for torn in (b"", b"\x01", struct.pack("<I", 50) + b"{"):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            peer.sendall(torn)
    assert ask(path, b'{"op":"status"}')["ok"]


def test_several_requests_on_one_connection(served: ReleaseLine) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(DEADLINE_S)
        peer.connect(str(socket_of(served)))
        for op in ("status", "renew", "status"):
            data = json.dumps({"op": op}).encode()
            peer.sendall(struct.pack("<I", len(data)) + data)
            assert read_answer(peer)["ok"]


def test_a_refusal_carries_its_code_over_the_wire(served: ReleaseLine) -> None:
    request = served.request()
    served.blob(request.release.manifests[PROFILES[0]]).unlink()
    answer = ask(socket_of(served), request.model_dump_json().encode())
    assert (answer["ok"], answer["code"]) == (False, "SIGNER_MANIFEST")


def site_of(folder: Path, made: datetime) -> ReleaseLine:
    """A line whose ceremony was at `made`, handed to the signer's user."""
    line = ReleaseLine.make(folder, now=made)
    (folder / "run").mkdir()
    if AS_ROOT:
        for path in [folder / "run", folder / "signer-state", *(folder / "site" / "signer").rglob("*")]:
            os.chown(path, SIGNER_UID, SIGNER_UID)
    return line


def test_it_renews_at_start_what_ran_out_and_then_by_its_own_timer(open_folder: Path) -> None:
    line = site_of(open_folder, made=datetime.now(timezone.utc) - timedelta(days=40))
    with running(line, timestamp_life_s=2):
        current = Repository(line.site.image).current()
        assert all(current[role].expires > datetime.now(timezone.utc) for role in current if role != "timestamp")
        deadline = time.monotonic() + DEADLINE_S
        while (version := Repository(line.site.image).versions()["timestamp"]) < 4:
            assert time.monotonic() < deadline, f"still version {version}"
            time.sleep(0.02)
    assert Repository(line.site.image).versions()["snapshot"] == 2, "later only the timestamp was due"


def test_sigterm_ends_it_cleanly_and_a_second_one_is_refused_meanwhile(line: ReleaseLine) -> None:
    with running(line) as program:
        second = subprocess.run(
            [sys.executable, "-m", "control_plane.signer", "--config", str(line.site.folder.parent / "signer.toml")],
            capture_output=True, text=True, user=SIGNER_UID, group=SIGNER_UID, check=False, timeout=DEADLINE_S,
        )  # fmt: skip
        assert (second.returncode, "SETUP_STATE_TAKEN" in second.stderr) == (1, True)
        with socket.socket(socket.AF_UNIX) as idle:
            idle.connect(str(socket_of(line)))
            program.send_signal(signal.SIGTERM)
            assert program.wait(DEADLINE_S) == 0, "an idle caller does not hold up the end"
    assert not socket_of(line).exists()
