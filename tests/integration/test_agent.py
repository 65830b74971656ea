"""One real agent process with worker and pipeline against a cloud that signs for real: install, update, crash, stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.states import State
from firmware_profiles.detect import detect
from tests.simulators.agent_process import AgentProcess, assign, real_bundle
from tests.simulators.director import DEVICE, Cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, profile=detect().name)
    yield cloud
    cloud.close()


@pytest.fixture
def agent(tmp_path: Path, cloud: Cloud) -> Iterator[AgentProcess]:
    agent = AgentProcess(tmp_path, cloud)
    assert agent.enrol() == DEVICE
    yield agent
    agent.close()


def transitions(cloud: Cloud, fence: int) -> list[tuple[str, str]]:
    return [(one["state"], one["code"]) for one in cloud.reports if one["kind"] == "transition" and one["fence"] == fence]


GOOD = [(state, "") for state in ("OFFERED", "DOWNLOADING", "STAGED", "BUILDING_ENGINE", "ACTIVATING", "PROBATION", "CONFIRMED")]


def test_an_agent_installs_updates_survives_and_stops(agent: AgentProcess, cloud: Cloud) -> None:
    first, second = real_bundle(cloud, 1), real_bundle(cloud, 2, seed=4)
    agent.start()
    assign(cloud, first, 1)
    agent.wait_for(lambda status: status["state"] == "CONFIRMED" and status["reports_waiting"] == 0)
    assert transitions(cloud, 1) == GOOD
    assign(cloud, second, 2)
    status = agent.wait_for(lambda status: status["confirmed_digest"] == second.digest and status["reports_waiting"] == 0)
    assert transitions(cloud, 2) == GOOD
    assert set(status["pids"]["workers"]) == {second.digest}

    before = agent.wait_for(lambda status: status["pipeline"]["accepted_rows"] > 20)
    agent.kill()
    killed = time.monotonic()
    agent.start()
    after = agent.wait_for(lambda status: status["pipeline"]["accepted_rows"] > before["pipeline"]["accepted_rows"] + 20)
    assert time.monotonic() - killed < 15
    assert (after["running_digest"], after["state"]) == (second.digest, "CONFIRMED")
    counters = after["pipeline"]
    assert counters["frames"] == counters["accepted_rows"] + counters["refused"] + counters["pending"]

    assert agent.command("status").stdout.startswith("device")
    assert DEVICE in agent.command("ledger", "--json").stdout
    print(f"agent core {agent.rss_mb():.1f} MB")
    assert agent.kill(signal.SIGTERM) == 0
    assert DEVICE in agent.command("ledger", "--json").stdout


def test_a_member_that_was_altered_never_runs(agent: AgentProcess, cloud: Cloud) -> None:
    bundle = real_bundle(cloud, 1)
    assign(cloud, bundle, 1)
    model = next(digest for digest, data in cloud.blobs.items() if data == bundle.members["model.onnx"])
    cloud.blobs[model] = cloud.blobs[model][:-1] + b"?"
    agent.start()
    agent.wait_for(lambda status: status["state"] == State.FAILED.value and status["reports_waiting"] == 0)
    assert transitions(cloud, 1)[-1] == ("FAILED", "BUNDLE_MEMBER_DIGEST")
    assert agent.status()["pids"]["workers"] == {}
