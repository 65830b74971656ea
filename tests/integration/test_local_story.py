"""The frame of the story: proofs, deadlines, the log as a feed, the record and its rendering, and no silence over two seconds."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import LocalFaultError, RejectedError, TransientError
from deploy.local.install import PACKAGES, install
from deploy.local.operators_api import EventFeed, OperatorsApi
from deploy.local.ports import Ports
from deploy.local.processes import command, environment
from deploy.local.progress import Progress, render
from deploy.local.record import Proof, Record, table
from deploy.local.site import AGENTS, CLOUD, PEOPLE, LocalSite
from deploy.local.story import Story, want
from deploy.local.supervisor import Supervisor
from program.clock import SystemClock

DEADLINE_S = 20
REPO = Path(__file__).parents[2]
EVENTS: list[dict[str, Any]] = [
    {"seq": n, "utc": "2026-01-01T00:00:00+00:00", "event": "x", "subject": f"s{n}", "actor": "system", "data": {}, "hash": "0"}
    for n in (1, 2, 3)
]


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A control plane that has three events, refuses /no, and hangs up on /broken."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    path = head.split()[1]
    if path != "/broken":
        status, body = 200, [event for event in EVENTS if event["seq"] > int(path.partition("after=")[2].split("&")[0] or 0)]
        if path == "/no":
            status, body = 404, {"code": "API_NOT_FOUND", "detail": "no such thing"}  # type: ignore[assignment]
        if "authorization: bearer secret" not in head.lower():
            status, body = 401, {"code": "API_UNAUTHENTICATED"}  # type: ignore[assignment]
        data = json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()
    writer.close()


def with_server(story: Callable[[OperatorsApi], Awaitable[None]]) -> None:
    async def main() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        async with server, asyncio.timeout(DEADLINE_S):
            await story(OperatorsApi(server.sockets[0].getsockname()[1], "secret"))

    asyncio.run(main())


def test_the_log_is_followed_from_its_first_event() -> None:
    async def story(api: OperatorsApi) -> None:
        feed = EventFeed(api, SystemClock())
        following = asyncio.create_task(feed.run())
        assert (await feed.wait(lambda event: event.subject == "s2")).seq == 2
        assert (await feed.wait(lambda _event: True, after=2)).seq == 3
        following.cancel()

    with_server(story)


def test_a_refusal_has_its_code_and_a_broken_answer_is_transient() -> None:
    async def story(api: OperatorsApi) -> None:
        with pytest.raises(RejectedError, match="API_NOT_FOUND"):
            await api.get("/no")
        with pytest.raises(TransientError, match="API_UNREACHABLE"):
            await api.get("/broken")
        with pytest.raises(RejectedError, match="API_UNAUTHENTICATED"):
            await OperatorsApi(api.port, "wrong").get("/x?after=0")

    with_server(story)


def tell(folder: Path, script: Callable[[Story], Awaitable[None]], out: io.StringIO) -> Record:
    async def main() -> Record:
        clock = SystemClock()
        site = LocalSite(folder, Ports(), as_root=False)
        async with (
            Supervisor(folder, clock) as supervisor,
            Story(site, supervisor, clock, Progress(clock, out), Record(), 1, folder / "picture.html") as story,
        ):
            await script(story)
            return story.record

    return asyncio.run(main())


def test_a_step_that_is_late_fails_and_says_what_it_waited_for(tmp_path: Path) -> None:
    async def script(story: Story) -> None:
        with pytest.raises(LocalFaultError, match=r"the sun rises: not within 0\.05 s"):
            async with story.proving("a", "the sun rises", 0.05):
                await asyncio.Event().wait()

    record = tell(tmp_path, script, io.StringIO())
    assert [(proof.ok, proof.code) for proof in record.proofs] == [(False, "SETUP_STEP_FAILED")]
    assert not record.ok


def test_a_step_that_is_not_true_keeps_what_was_seen(tmp_path: Path) -> None:
    async def script(story: Story) -> None:
        async with story.proving("a", "one is one", 5) as proof:
            proof.figures["n"] = 1
        with pytest.raises(LocalFaultError, match="equal hashes"):
            async with story.proving("f", "ledgers", 5):
                want(False, "equal hashes", {"lake": 1, "device": 2})

    record = tell(tmp_path, script, io.StringIO())
    assert [proof.ok for proof in record.proofs] == [True, False]
    assert "'device': 2" in record.proofs[1].detail


def test_waiting_is_never_silent_for_two_seconds(tmp_path: Path) -> None:
    out = io.StringIO()

    async def script(story: Story) -> None:
        async with story.proving("a", "something slow", 10):
            await story.until_mono(story.clock.mono() + 2.2)

    tell(tmp_path, script, out)
    waited = [int(second) for second in re.findall(r"something slow \((\d+) s\)", out.getvalue())]
    assert len(waited) >= 3
    assert max(later - earlier for earlier, later in pairwise(waited)) <= 2


def test_the_table_is_a_rendering_of_the_json(tmp_path: Path) -> None:
    record = Record(
        [Proof("d", "traced", True, 1.234, "lake", 7, {"digest": "ab" * 32, "rows": 5000, "share": 0.123456})], [], {"all": 1.0}, {}
    )
    record.save(tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text())
    assert table(read) == [("d", "traced", "lake #7", "digest abababababab, rows 5000, share 0.1235", "1.2", "ok")]
    out = io.StringIO()
    render(read, out)
    assert "abababababab" in out.getvalue()
    assert read["ok"] is True


def test_a_command_gives_back_what_it_said() -> None:
    async def main() -> None:
        script = "import sys; print(sys.stdin.read()); print('no', file=sys.stderr); sys.exit(3)"
        done = await command([sys.executable, "-S", "-c", script], None, environment(Path("/"), "x"), "hello")
        assert (done.returncode, done.stdout, done.stderr) == (3, "hello\n", "no\n")

    asyncio.run(main())


def test_everybody_has_a_number_of_his_own_as_root_and_none_otherwise(tmp_path: Path) -> None:
    site = LocalSite(tmp_path, Ports(), as_root=True)
    numbers = [site.owner(name) for name in (*CLOUD, *AGENTS, *PEOPLE)]
    assert len({owner.uid for owner in numbers if owner}) == len(numbers)
    signer, control = site.owner("signer"), site.owner("control")
    assert signer is not None
    assert control is not None
    assert control.gid in signer.groups  # it reads the blob folder
    assert LocalSite(tmp_path, Ports(), as_root=False).owner("control") is None


def test_an_installation_that_fails_says_what_the_installer_said(tmp_path: Path) -> None:
    for name in PACKAGES:
        (tmp_path / "source" / name).mkdir(parents=True)
    (tmp_path / "source" / "pyproject.toml").write_text("[project]\nname = 'no version'\n")
    with pytest.raises(LocalFaultError, match=r"must contain .*version") as failed:
        asyncio.run(install(tmp_path / "source", tmp_path / "opt"))
    assert failed.value.code == "SETUP_INSTALL"


def test_an_interrupt_stops_everything() -> None:
    """Ctrl-C while programs run: all of them end, and the exit code says so."""
    argv = [sys.executable, "-m", "deploy.local", "demo", "--port-base", "23170"]
    with subprocess.Popen(argv, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        ready = next((line for line in lines if "signer ready  (" in line), None)
        assert ready is not None
        demo.send_signal(signal.SIGINT)
        said: Any = demo.stdout.read()
        assert demo.wait(DEADLINE_S) == 130, said
    assert "interrupted: everything is stopped" in said


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: only root gives programs other uids")
def test_a_work_folder_that_others_cannot_reach_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(LocalFaultError, match=re.escape(str(tmp_path))) as refused:
        LocalSite(tmp_path / "x", Ports(), as_root=True).make_folders()
    assert refused.value.code == "SETUP_WORK_DIR"
