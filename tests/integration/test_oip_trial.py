"""A device without a source, asked over the Open Inference Protocol alone: an update is tried, judged by the gates, confirmed."""

from __future__ import annotations

import http.client
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.operator import Gate
from contracts.reports import Window
from contracts.states import State
from control_plane.domain.agreement import Estimate, expected
from control_plane.domain.evidence import Evidence, of_window
from control_plane.domain.execution import Execution
from control_plane.domain.gates import Judged, judge
from edge_agent.inference.host import HostSettings
from edge_agent.inference.oip.canary import chosen
from firmware_profiles.detect import detect
from tests.integration.oip_process import site
from tests.simulators.agent_process import AgentProcess, assign, real_bundle
from tests.simulators.bundle_bytes import BundleBytes
from tests.simulators.bundles import INPUT_SHAPE
from tests.simulators.director import DEVICE, Cloud
from tests.simulators.onnx_bundles import onnx_slot

LIMIT_S = 30.0
CANARY = 0.25
GATES = {
    State.SHADOWING: (
        Gate(metric="agreement", limit=0.10, min_samples=150),
        Gate(metric="latency_p95_vs_incumbent", limit=3, min_samples=150),
    ),
    State.PROBATION: (Gate(metric="latency_p95_us", limit=1_000_000, min_samples=100), Gate(metric="not_finite", limit=0, min_samples=100)),
}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, profile=detect().name)
    yield cloud
    cloud.close()


@pytest.fixture
def agent(tmp_path: Path, cloud: Cloud) -> Iterator[AgentProcess]:
    front = f"[oip]\nrest_port = 0\nshadow_share = 1.0\ncanary_share = {CANARY}\n"
    agent = AgentProcess(tmp_path, cloud, fps=None, network=f"retry_cap_s = 1\n{front}")
    assert agent.enrol() == DEVICE
    yield agent
    agent.close()


class Callers:
    """Programs on the device: each request has an id of its own, and `answered` says which version it got."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._random, self._number = np.random.default_rng(7), 0
        self.answered: dict[str, str] = {}

    def __enter__(self) -> Callers:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self) -> str:
        self._number += 1
        values = self._random.random(math.prod(INPUT_SHAPE)).tolist()
        tensor = {"name": "x", "datatype": "FP32", "shape": list(INPUT_SHAPE), "data": values}
        body = json.dumps({"id": f"caller-{self._number}", "inputs": [tensor]})
        self._connection.request("POST", "/v2/models/tiny/infer", body)
        answer = json.loads(self._connection.getresponse().read())
        self.answered[answer["id"]] = answer["model_version"]
        return str(answer["model_version"])

    def ask_until(self, condition: Callable[[], Any]) -> None:
        until = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < until
            self.ask()

    def metric(self, name: str) -> int:
        self._connection.request("GET", "/metrics")
        lines = self._connection.getresponse().read().decode().splitlines()
        return sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))


def evidence(cloud: Cloud, bundle: BundleBytes) -> Evidence:
    """As the control plane folds it."""
    windows = [Window.model_validate(one) for one in list(cloud.reports) if one["kind"] == "window" and one["fence"] == 2]
    return sum((of_window(one, bundle.digest) for one in windows), Evidence())


def verdicts(cloud: Cloud, state: State, old: BundleBytes, new: BundleBytes) -> set[str]:
    execution = Execution("c2", DEVICE, 1, "install", new.digest, old.digest, 2, state, evidence=evidence(cloud, new))
    wave = Judged((DEVICE,), (execution,), 150, {DEVICE: expected(Estimate(1.0, 1080), None)})
    return {judge(gate, wave).verdict for gate in GATES[state]}


def test_an_update_is_tried_judged_and_confirmed_by_requests_alone(agent: AgentProcess, cloud: Cloud) -> None:
    first, second = real_bundle(cloud, 1), real_bundle(cloud, 2)
    assign(cloud, first, 1)
    agent.start()
    port = agent.wait_for(lambda status: status["state"] == "PROBATION" and status["oip"]["rest"])["oip"]["rest"]
    with Callers(port) as callers:
        callers.ask_until(lambda: agent.status().get("state") == "CONFIRMED")
        tried = {"shadow_pairs": 150, "activate": False}
        assign(cloud, second, 2, **tried)
        agent.wait_for(lambda status: status["state"] == "SHADOWING")
        callers.ask_until(lambda: "2" in callers.answered.values())
        callers.answered.clear()
        callers.ask_until(lambda: verdicts(cloud, State.SHADOWING, first, second) == {"passed"})
        assert all((version == "2") == chosen(one, second.digest, CANARY) for one, version in callers.answered.items())
        assert Counter(callers.answered.values())["2"] <= callers.metric("skerry_oip_canary_answered")
        compared = callers.metric("skerry_oip_shadow_compared")
        assert callers.metric("skerry_oip_shadow_agreed") >= compared >= 150

        assign(cloud, second, 2, **{**tried, "activate": True, "desired_generation": 3})
        agent.wait_for(lambda status: status["state"] == "PROBATION")
        callers.ask_until(lambda: verdicts(cloud, State.PROBATION, first, second) == {"passed"})
        agent.wait_for(lambda status: status["confirmed_digest"] == second.digest)
        shadowed = callers.metric("skerry_oip_shadow_sent")
        assert [callers.ask() for _ in range(20)] == ["2"] * 20
        assert callers.metric("skerry_oip_shadow_sent") == shadowed  # the trial is over
    assert evidence(cloud, second).score_shift.n == evidence(cloud, second).pairs


def test_a_trial_that_is_called_off_leaves_the_live_model_and_nobody_without_an_answer(agent: AgentProcess, cloud: Cloud) -> None:
    first, second = real_bundle(cloud, 1), real_bundle(cloud, 2, seed=4)
    assign(cloud, first, 1, probation={"min_s": 0, "min_frames": 0})
    agent.start()
    agent.wait_for(lambda status: status["state"] == "CONFIRMED" and status["oip"]["rest"])
    assign(cloud, second, 2, shadow_pairs=150, activate=False)
    status = agent.wait_for(lambda status: status["state"] == "SHADOWING")
    with Callers(status["oip"]["rest"]) as callers:
        callers.ask_until(lambda: "2" in callers.answered.values())
        assign(cloud, second, 2, kind="none", components=[], execution="", desired_generation=3)
        callers.ask_until(lambda: second.digest not in agent.status().get("workers", {second.digest}))
        assert [callers.ask() for _ in range(50)] == ["1"] * 50
    assert agent.status()["state"] == "CANCELED"


def test_with_one_seat_for_clients_the_shadows_goes_over_to_the_callers_at_an_activation(tmp_path: Path) -> None:
    old, new = (onnx_slot(tmp_path / "slots", seed, number=seed) for seed in (1, 2))
    with site(tmp_path, old, {"shadow_share": 1.0}, HostSettings(seats=2)) as here:
        here.load(new)
        here.candidate = new[0]
        with Callers(here.link.ports["rest"]) as callers:
            callers.ask_until(lambda: callers.metric("skerry_oip_shadow_compared") > 3)
            here.make_live(new)
            here.candidate = ""
            here.unload(old[0])
            assert [callers.ask() for _ in range(50)] == ["2"] * 50
