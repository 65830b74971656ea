"""A real agent whose clock stands in 1975 and in 2100 (libfaketime; monotonic time goes on as it does): what runs goes on, nothing is
installed, the code says why, and with the right clock the update comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_profiles.detect import detect
from tests.simulators.agent_process import AgentProcess, assign, real_bundle
from tests.simulators.director import Cloud

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
CLOCKS = {
    "1975-06-01 00:00:00": "TUF_CLOCK_BELOW_FLOOR",  # before anything is fetched: every expired file would look fresh
    "2100-06-01 00:00:00": "API_UNREACHABLE",  # the server's certificate looks expired
}
FRAMES_MEANWHILE = 20


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, profile=detect().name)
    yield cloud
    cloud.close()


def test_a_wrong_clock_stops_updates_and_nothing_else(tmp_path: Path, cloud: Cloud) -> None:
    assert FAKETIME, "apt-get install faketime (./dev test does)"
    agent = AgentProcess(tmp_path, cloud, network="retry_cap_s = 0.3\n")
    agent.enrol()
    first, second = real_bundle(cloud, 1, seed=1), real_bundle(cloud, 2, seed=2)
    assign(cloud, first, 1)
    agent.start()
    agent.wait_for(lambda status: status["confirmed_digest"] == first.digest)
    agent.kill()
    assign(cloud, second, 2)
    for when, code in CLOCKS.items():
        agent.environment = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"@{when}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        agent.start()
        frames = agent.wait_for(lambda status: status["pipeline"])["pipeline"]["accepted_rows"]
        seen = agent.wait_for(lambda status: status["pipeline"]["accepted_rows"] > frames + FRAMES_MEANWHILE and status["poll_trouble"])  # noqa: B023
        assert (seen["poll_trouble"], seen["running_digest"], seen["state"]) == (code, first.digest, "CONFIRMED")
        assert when[:4] in agent.log(), "the agent saw the wrong time"
        agent.kill()
    agent.environment = {}
    agent.start()
    agent.wait_for(lambda status: status["confirmed_digest"] == second.digest)
    agent.close()
