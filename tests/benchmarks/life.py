"""How soon a model answers, how soon again after a crash, and what waiting costs: real processes, nothing else to do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import SkerryError
from deploy.local.proc import tree
from edge_agent.inference.client import Client
from edge_agent.inference.host import WorkerHost
from firmware_profiles.detect import detect
from tests.benchmarks.inference_floor import RESNET, Slot, slot_of
from tests.integration.proc_stat import cpu_s
from tests.simulators.agent_process import AgentProcess, assign, real_bundle
from tests.simulators.director import Cloud

Figure = dict[str, Any]
READY_GOAL_S, AGAIN_GOAL_S, IDLE_GOAL, RSS_GOAL_MB = 3.0, 2.0, 0.01, 60.0
IDLE_S, SETTLE_S = 20.0, 5.0
DEVICE_PYTHON = Path(sys.prefix).resolve().parent / "venv-device-py310/bin/python"  # what a device has installed; `./dev test` makes it


def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        ready_s, again_s = asyncio.run(_crash(Path(folder), slot_of(Path(folder) / "slots", RESNET)))
        share, rss_mb = _idle(Path(folder) / "idle", sys.executable)
        boards = [_idle(Path(folder) / "board", str(DEVICE_PYTHON))[1]] if DEVICE_PYTHON.exists() else []
    if not boards:
        print(f"not run: an agent with a device's packages ({DEVICE_PYTHON} is made by ./dev test)", file=sys.stderr)
    return [
        _line(f"{RESNET.name}, worker spawned to first answer", ready_s, "s", READY_GOAL_S),
        _line(f"{RESNET.name}, worker killed to next answer", again_s, "s", AGAIN_GOAL_S),
        _line("agent, worker and pipeline, idle, share of one core", share, "", IDLE_GOAL),
        {**_line("agent's resident set, idle, with the packages of development", rss_mb, "MB", RSS_GOAL_MB), "goal": "", "holds": None},
        *(_line("the same with a device's packages (Python 3.10)", one, "MB", RSS_GOAL_MB) for one in boards),
    ]


async def _crash(folder: Path, slot: Slot) -> tuple[float, float]:
    """Seconds until the first answer, self-test included, and from a SIGKILL to the next."""
    digest, _, _ = slot
    host = WorkerHost(sys.executable, folder / "run")
    await host.probe()  # the agent has asked long before
    try:
        began = time.monotonic()
        await host.load(*slot)
        route, descriptors = host.route(digest)
        memfd, request_fd, response_fd = (os.dup(number) for number in descriptors)
        client = Client(route["arena"], route["input"], route["output"], (memfd, request_fd, response_fd))
        await _answered(client)
        ready_s, killed = time.monotonic() - began, time.monotonic()
        os.kill(host.pids()[digest], signal.SIGKILL)
        await host.deaths.get()
        await _answered(client)
        again_s = time.monotonic() - killed
        client.close()
        return ready_s, again_s
    finally:
        await host.close()


async def _answered(client: Client) -> None:
    values = np.zeros(client.input_shape, client.input_dtype)
    while True:
        try:
            client.infer(values, 0.02)
            return
        except SkerryError:
            await asyncio.sleep(0.002)


def _idle(folder: Path, python: str) -> tuple[float, float]:
    """(share of one core, MB) of an agent with a live model, a pipeline whose next frame is far away, and a quiet cloud.

    The share is of agent, worker and pipeline, the MB (10^6 bytes) are the agent's.
    """
    folder.mkdir()
    cloud = Cloud(folder, profile=detect().name)
    agent = AgentProcess(folder, cloud, fps=0.01, python=python)
    agent.enrol()
    agent.start()
    try:
        bundle = real_bundle(cloud, 1)
        quiet = {"poll_interval_s": 30, "report_window_s": 30, "probation": {"min_s": 0, "min_frames": 0}}
        assign(cloud, bundle, 1, **quiet)
        agent.wait_for(lambda status: status["confirmed_digest"] == bundle.digest and status["reports_waiting"] == 0)
        time.sleep(SETTLE_S)
        before, began = _cpu_s(agent), time.monotonic()
        time.sleep(IDLE_S)
        return (_cpu_s(agent) - before) / (time.monotonic() - began), agent.rss_mb()
    finally:
        agent.close()
        cloud.close()


def _cpu_s(agent: AgentProcess) -> float:
    assert agent.process
    return sum(cpu_s(process.pid) for process in tree(agent.process.pid))


def _line(name: str, value: float, unit: str, limit: float) -> Figure:
    return {"name": name, "value": round(value, 4), "unit": unit, "goal": f"<= {limit:g}", "holds": value <= limit, "against": ""}


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
