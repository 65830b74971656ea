"""The real agent on a real disk of 64 MB that fills up, or that the kernel takes away: the model goes on answering frames.

What could not be saved has not happened, what was refused is counted, and once there is room everything goes on from where it was.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_profiles.detect import detect
from tests.integration.small_disk import MEGABYTE, SmallDisk, read_only_view, small_disk
from tests.integration.test_agent import GOOD, transitions
from tests.simulators.agent_process import AgentProcess, assign, real_bundle
from tests.simulators.director import DEVICE, Cloud

SETTINGS = f"free_space_margin_bytes = {MEGABYTE}\n"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, profile=detect().name)
    yield cloud
    cloud.close()


@pytest.fixture
def on_disk(tmp_path: Path, cloud: Cloud) -> Iterator[Callable[[str], tuple[AgentProcess, SmallDisk]]]:
    """An enrolled agent whose state folder is a small disk of that kind."""
    made: list[AgentProcess] = []
    disks = []

    def on_disk(kind: str) -> tuple[AgentProcess, SmallDisk]:
        disks.append(small_disk(tmp_path / "state", kind=kind))
        disk = disks[0].__enter__()
        made.append(AgentProcess(tmp_path, cloud, fps=50, settings=SETTINGS))
        assert made[0].enrol() == DEVICE
        return made[0], disk

    yield on_disk
    for agent in made:
        agent.close()
    for disk in disks:
        disk.__exit__(None, None, None)


def running(agent: AgentProcess, cloud: Cloud) -> dict[str, Any]:
    """The first model confirmed, its rows accepted."""
    agent.start()
    assign(cloud, real_bundle(cloud, 1), 1)
    return agent.wait_for(lambda status: status["state"] == "CONFIRMED" and status["pipeline"]["accepted_rows"] > 20)


def goes_on(agent: AgentProcess, before: dict[str, Any], frames: int = 40) -> dict[str, Any]:
    """The same process, the same model, more frames."""
    wanted = before["pipeline"]["frames"] + frames
    status = agent.wait_for(lambda status: status["pipeline"]["frames"] > wanted)
    assert (status["pids"]["agent"], status["running_digest"]) == (before["pids"]["agent"], before["running_digest"])
    return status


def test_a_full_state_folder_stops_no_frame_and_nothing_is_lost(
    cloud: Cloud, on_disk: Callable[[str], tuple[AgentProcess, SmallDisk]]
) -> None:
    agent, disk = on_disk("tmpfs")
    before = running(agent, cloud)
    disk.full()
    status = agent.wait_for(lambda status: status["disk_trouble"] and status["pipeline"]["refused"] > before["pipeline"]["refused"])
    assert "database or disk is full" in status["disk_trouble"]
    second = real_bundle(cloud, 2, seed=4)
    assign(cloud, second, 2)
    status = goes_on(agent, before)
    assert (status["state"], status["fence"]) == ("CONFIRMED", 1), "an order that cannot be saved is not begun"

    for how in (signal.SIGKILL, signal.SIGTERM):  # an agent that ends on a full disk, one way or the other, comes back on it
        agent.kill(how)
        disk.full()  # also what its databases' logs gave back
        agent.start()
        status = agent.wait_for(lambda status: status["pipeline"]["frames"] > 0 and status["running_digest"] == before["running_digest"])
        status = goes_on(agent, status, frames=20)
        assert status["disk_trouble"]

    disk.room()
    status = agent.wait_for(lambda status: status["confirmed_digest"] == second.digest and status["reports_waiting"] == 0)
    assert transitions(cloud, 2) == GOOD
    rows = status["pipeline"]["accepted_rows"]
    status = agent.wait_for(lambda status: status["pipeline"]["accepted_rows"] > rows + 20 and not status["disk_trouble"])
    assert agent.kill(signal.SIGTERM) == 0
    counters = status["pipeline"]
    assert counters["frames"] == counters["accepted_rows"] + counters["refused"] + counters["pending"]
    ledger = json.loads(agent.command("ledger", "--json").stdout)
    assert sum(one["accepted_rows"] for one in ledger["streams"].values()) >= counters["accepted_rows"]


def test_a_disk_that_gets_short_sheds_the_oldest_rows_and_takes_no_model_that_does_not_fit(
    cloud: Cloud, on_disk: Callable[[str], tuple[AgentProcess, SmallDisk]]
) -> None:
    agent, disk = on_disk("tmpfs")
    before = running(agent, cloud)
    disk.full(leave_bytes=4 * MEGABYTE)
    short = agent.wait_for(lambda status: sum(one["shed_rows"] for one in status["outbox"]["streams"].values()) > 20)
    status = goes_on(agent, before)
    assert (status["pipeline"]["refused"], status["disk_trouble"]) == (short["pipeline"]["refused"], ""), "old rows give way to new ones"
    assert " shed" in agent.command("status").stdout

    disk.full(leave_bytes=MEGABYTE // 2)
    assign(cloud, real_bundle(cloud, 2, seed=4), 2)
    status = agent.wait_for(lambda status: status["state"] == "FAILED" and status["reports_waiting"] == 0)
    assert transitions(cloud, 2)[-1] == ("FAILED", "BUNDLE_NO_SPACE")
    goes_on(agent, status)
    assert list((disk.folder / "slots/.staging").iterdir()) == [], "what was fetched has given its room back"
    assert agent.kill(signal.SIGTERM) == 0


def test_a_disk_that_becomes_read_only_stops_no_frame(cloud: Cloud, on_disk: Callable[[str], tuple[AgentProcess, SmallDisk]]) -> None:
    """ext4 whose journal is gone: what a kernel does after errors of a flash card."""
    agent, disk = on_disk("ext4")
    before = running(agent, cloud)
    disk.read_only()
    status = agent.wait_for(lambda status: status["disk_trouble"] and status["pipeline"]["refused"] > before["pipeline"]["refused"])
    assign(cloud, real_bundle(cloud, 2, seed=4), 2)
    status = goes_on(agent, status)
    assert (status["state"], status["fence"]) == ("CONFIRMED", 1)
    assert "\ndisk      " in agent.command("status").stdout
    assert agent.kill(signal.SIGTERM) == 0


def test_an_agent_does_not_start_on_a_read_only_folder_and_says_so(tmp_path: Path, cloud: Cloud) -> None:
    agent = AgentProcess(tmp_path, cloud)
    agent.enrol()
    with read_only_view(tmp_path / "state"):
        done = agent.command("run")
        enrol = agent.command("enrol", "--token", "skt1." + "s" * 24 + "." + cloud.ca_sha256(), "--server", cloud.enrolment)
    said = f"skerry-agent: SETUP_STATE_DISK: {tmp_path}/state"
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
    assert "  remedy: free space there, mount it writable" in done.stderr
    assert (enrol.returncode, said in enrol.stderr, "Traceback" in enrol.stderr) == (1, True, False), enrol.stderr
    agent.close()


def test_an_agent_does_not_start_beside_another_one(tmp_path: Path, cloud: Cloud) -> None:
    agent = AgentProcess(tmp_path, cloud)
    agent.enrol()
    agent.start()
    pid = agent.wait_for(lambda status: status)["pids"]["agent"]
    second = agent.command("run")
    assert (second.returncode, "Traceback" in second.stderr) == (1, False)
    assert f"skerry-agent: SETUP_STATE_TAKEN: {tmp_path}/state: another process uses" in second.stderr
    assert agent.wait_for(lambda status: status)["pids"]["agent"] == pid, "the first one is asked, and answers"
    agent.kill()
    agent.start()
    agent.close()
