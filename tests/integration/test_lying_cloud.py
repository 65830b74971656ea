"""The real agent against a control plane that signs for real and lies in HTTP: what runs goes on, nothing of a lie is taken, and the
first honest answers are enough. Every lie stands in tests/simulators/lies.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from contracts.states import State
from firmware_profiles.detect import detect
from tests.simulators.agent_process import AgentProcess, assign, real_bundle
from tests.simulators.bundle_bytes import BundleBytes
from tests.simulators.director import Cloud
from tests.simulators.lies import LIES

IMPATIENT = "retry_cap_s = 0.3\nread_timeout_s = 0.5\nmetadata_deadline_s = 1\nblob_deadline_s = 5\nrate_grace_s = 0.5\n"
FRAMES_MEANWHILE = 10
NOT_THE_BYTES = "BUNDLE_MISMATCH"
# (beginning of the paths that are lied about, lie) -> code under which the device gives the bundle up; "" where it goes on asking.
# Bytes that are not the signed ones, well delivered, are the content's fault: it takes a new fence to have them tried again.
TABLE = {
    **{("", lie): "" for lie in LIES},
    ("blobs/", "drip"): "",
    ("blobs/", "cut"): "",
    ("blobs/", "claims less"): NOT_THE_BYTES,
    ("blobs/", "error page"): NOT_THE_BYTES,
    ("blobs/", "endless"): "TUF_INVALID",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cloud, AgentProcess, list[BundleBytes]]]:
    """An agent that runs the first of its bundles; each test adds one."""
    folder = tmp_path_factory.mktemp("lies")
    cloud = Cloud(folder, profile=detect().name)
    agent = AgentProcess(folder, cloud, network=IMPATIENT)
    agent.enrol()
    bundles = [real_bundle(cloud, 1, seed=1)]
    assign(cloud, bundles[0], 1)
    agent.start()
    confirmed(agent, bundles[0])
    yield cloud, agent, bundles
    agent.close()
    cloud.close()


def confirmed(agent: AgentProcess, bundle: BundleBytes) -> dict[str, Any]:
    return agent.wait_for(lambda status: status["confirmed_digest"] == bundle.digest and status["state"] == "CONFIRMED")


@pytest.mark.parametrize(("about", "lie"), TABLE, ids=lambda word: word or "everything")
def test_a_lie_changes_nothing_and_the_truth_is_enough(site: tuple[Cloud, AgentProcess, list[BundleBytes]], about: str, lie: str) -> None:
    cloud, agent, bundles = site
    before, code, number = bundles[-1], TABLE[about, lie], len(bundles) + 1
    bundles.append(real_bundle(cloud, number, seed=number))
    cloud.lied, cloud.lie = 0, (about, LIES[lie])
    assign(cloud, bundles[-1], 10 * number)
    frames, pid = agent.status()["pipeline"]["accepted_rows"], agent.status()["pids"]["agent"]

    met = agent.wait_for(lambda status: _met(cloud, status, code) and status["pipeline"]["accepted_rows"] >= frames + FRAMES_MEANWHILE)
    assert (met["running_digest"], met["confirmed_digest"], met["code"]) == (before.digest, before.digest, code)
    cloud.lie = None
    if code:
        assign(cloud, bundles[-1], 10 * number + 1)
    assert confirmed(agent, bundles[-1])["pids"]["agent"] == pid, "it was never restarted"


def _met(cloud: Cloud, status: dict[str, Any], code: str) -> bool:
    return status["state"] == State.REJECTED.value if code else cloud.lied >= 2
