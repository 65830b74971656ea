"""One real agent process with worker and pipeline against a cloud that signs for real: install, update, crash, stop."""

from __future__ import annotations

import http.client
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.states import State
from edge_agent.inference.circuit import DEATHS_TO_OPEN
from edge_agent.inference.client import Client
from firmware_profiles.detect import detect
from tests.simulators.agent_process import AgentProcess, assign, real_bundle
from tests.simulators.bundle_bytes import BundleBytes
from tests.simulators.bundles import INPUT_SHAPE
from tests.simulators.director import DEVICE, Cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, profile=detect().name)
    yield cloud
    cloud.close()


@pytest.fixture
def agent(tmp_path: Path, cloud: Cloud) -> Iterator[AgentProcess]:
    agent = AgentProcess(tmp_path, cloud, network="retry_cap_s = 1\n[oip]\nrest_port = 0\n")
    assert agent.enrol() == DEVICE
    yield agent
    agent.close()


def transitions(cloud: Cloud, fence: int) -> list[tuple[str, str]]:
    return [(one["state"], one["code"]) for one in cloud.reports if one["kind"] == "transition" and one["fence"] == fence]


def version_that_answers(port: int) -> str:
    """Of the Open Inference Protocol front."""
    tensor = {"name": "x", "datatype": "FP32", "shape": list(INPUT_SHAPE), "data": [0.5] * math.prod(INPUT_SHAPE)}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v2/models/tiny/infer", json.dumps({"inputs": [tensor]}))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return str(answer.get("model_version", answer))


GOOD = [(state, "") for state in ("OFFERED", "DOWNLOADING", "STAGED", "BUILDING_ENGINE", "ACTIVATING", "PROBATION", "CONFIRMED")]


def client_of(agent: AgentProcess, digest: str) -> Client:
    """A program beside the pipeline, which asks what is live."""
    client = Client.attach(str(agent.run_dir / "arena.sock"))
    assert client.route["digest"] == digest
    assert client.infer(np.zeros(client.input_shape, client.input_dtype), 20.0).finite
    return client


def test_an_agent_installs_updates_survives_and_stops(agent: AgentProcess, cloud: Cloud) -> None:
    first, second = real_bundle(cloud, 1), real_bundle(cloud, 2, seed=4)
    agent.start()
    assign(cloud, first, 1)
    agent.wait_for(lambda status: status["state"] == "CONFIRMED" and status["reports_waiting"] == 0)
    assert transitions(cloud, 1) == GOOD
    beside = client_of(agent, first.digest)
    assign(cloud, second, 2)
    status = agent.wait_for(lambda status: status["confirmed_digest"] == second.digest and status["reports_waiting"] == 0)
    assert transitions(cloud, 2) == GOOD
    assert set(status["pids"]["workers"]) == {second.digest}
    assert version_that_answers(status["oip"]["rest"]) == "2"
    assert beside.detached
    beside.close()
    client_of(agent, second.digest).close()

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


def killed_until_given_up(agent: AgentProcess, digest: str) -> None:
    """Each time as soon as its worker is ready again. The fifth death within ten minutes is the last."""
    killed: list[int] = []
    while len(killed) < DEATHS_TO_OPEN:
        status = agent.wait_for(lambda status: ready(status, digest) and status["workers"][digest]["pid"] not in (None, *killed))
        killed.append(status["workers"][digest]["pid"])
        os.kill(killed[-1], signal.SIGKILL)


def ready(status: dict[str, Any], digest: str) -> bool:
    return digest in status["workers"] and bool(status["workers"][digest]["state"] == "ready")


def settled_on(agent: AgentProcess, bundle: BundleBytes) -> dict[str, Any]:
    return agent.wait_for(lambda status: status["confirmed_digest"] == bundle.digest and status["reports_waiting"] == 0)


def polls(cloud: Cloud) -> int:
    return sum(path.endswith("director/timestamp.json") for _, path, _ in cloud.requests)


def test_five_deaths_of_a_worker_roll_back_and_nothing_is_tried_until_a_new_fence(agent: AgentProcess, cloud: Cloud) -> None:
    first, second = real_bundle(cloud, 1), real_bundle(cloud, 2, seed=4)
    agent.start()
    for fence, bundle in enumerate((first, second), 1):
        assign(cloud, bundle, fence)
        settled_on(agent, bundle)

    killed_until_given_up(agent, second.digest)
    status = agent.wait_for(lambda status: status["state"] == State.REVERTED.value and status["reports_waiting"] == 0)
    assert transitions(cloud, 2) == [*GOOD, ("ROLLING_BACK", "WORKER_CIRCUIT_OPEN"), ("REVERTED", "WORKER_CIRCUIT_OPEN")]
    assert (status["running_digest"], set(status["workers"])) == (first.digest, {first.digest})
    answered = status["workers"][first.digest]["served"]
    agent.wait_for(lambda status: status["workers"][first.digest]["served"] > answered)

    told = transitions(cloud, 2)
    assign(cloud, second, 2, desired_generation=3, execution=f"c2/{DEVICE}/2")
    agent.wait_for(lambda _: '"generation": 3' in agent.log())
    looks = polls(cloud)
    status = agent.wait_for(lambda _: polls(cloud) > looks + 1)
    assert (status["running_digest"], status["state"], transitions(cloud, 2)) == (first.digest, State.REVERTED.value, told)
    assign(cloud, second, 4)
    settled_on(agent, second)
    assert transitions(cloud, 4) == GOOD
