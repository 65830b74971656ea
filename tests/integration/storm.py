"""The storm of test_kills.py: a site whose programs are killed while they are busy, in an order drawn from a seed.

Two devices have v1 and infer. The third is off while an order waits for it: so an execution is open whenever the control plane dies.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import SkerryError
from deploy.local.record import Proof
from deploy.local.site import AGENTS
from deploy.local.steps import campaigns, enrolled, kill_control, killed, ledgers, measured, released, setup
from deploy.local.story import Story
from tests.integration.local_site import local_site
from tests.integration.release_kills import release_under_fire

PORT_BASE = 23_240
KILLS = 3  # of each program
ON, OFF = ("agent-1", "agent-2"), "agent-3"
ON_A_DEVICE = ("agent", "worker", "pipeline", "broker")  # a broker is busy with the batches of one of them
IN_THE_CLOUD = ("ingest", "control")
LONGEST_BUILD_DELAY_S = 0.3  # a build takes 0.7 s on a quiet machine: it must still be under way when it is killed
LONGEST_DELAY_S = 0.4
MIN_ROWS = 1_000
VERSION = 1
CAMPAIGN_S = 120


@dataclass(frozen=True)
class Kill:
    program: str
    device: str  # "" in the cloud
    delay_s: float  # before one looks whether it is busy


@dataclass(frozen=True)
class Plan:
    seed: int
    build_delays_s: tuple[float, ...]
    kills: tuple[Kill, ...]


def drawn(seed: int) -> Plan:
    """A worker dies three times on one device, so that its circuit has something to count."""
    draw = random.Random(seed)
    of_workers = draw.choice(ON)
    programs = [program for program in (*ON_A_DEVICE, *IN_THE_CLOUD) for _ in range(KILLS)]
    draw.shuffle(programs)
    devices = {"worker": (of_workers,), **dict.fromkeys(IN_THE_CLOUD, ("",))}
    kills = [Kill(program, draw.choice(devices.get(program, ON)), draw.uniform(0, LONGEST_DELAY_S)) for program in programs]
    return Plan(seed, tuple(draw.uniform(0, LONGEST_BUILD_DELAY_S) for _ in range(KILLS)), tuple(kills))


@dataclass
class Told:
    """What the storm leaves to be looked at. `failure`: what ended it before its time."""

    proofs: list[Proof] = field(default_factory=list)
    failure: str = ""
    restarts: dict[str, int] = field(default_factory=dict)
    planned: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    alarms: dict[str, list[str]] = field(default_factory=dict)  # agent -> events it raised an alarm about


async def storm(plan: Plan) -> Told:
    told = Told()
    try:
        async with local_site(PORT_BASE, plan.seed, (setup.run, enrolled.run)) as story:
            told.proofs = story.record.proofs
            await _release(story, plan)
            await _install(story, "on", ON)
            await story.supervisor.stop(OFF)
            await _kill_all(story, plan.kills)
            await _settle(story, told)
    except SkerryError as failed:
        told.failure = str(failed)
    return told


async def _release(story: Story, plan: Plan) -> None:
    await story.training
    await released.register(story, VERSION)
    await release_under_fire(story, VERSION, plan.build_delays_s)


async def _install(story: Story, name: str, programs: Sequence[str]) -> None:
    since = story.feed.last
    async with story.proving("a", f"v1 on {', '.join(programs)}", CAMPAIGN_S, ["control", *programs]) as proof:
        await campaigns.ended(story, proof, await _campaign(story, name, programs), since)


async def _campaign(story: Story, name: str, programs: Sequence[str]) -> str:
    waves = [{"devices": [story.devices[program] for program in programs], "gates": [{"metric": "install_success", "limit": 1}]}]
    made = await story.api.request("POST", "/v1/campaigns", {"name": name, "release": story.releases[VERSION], "waves": waves})
    return str(made["id"])


async def _kill_all(story: Story, kills: Sequence[Kill]) -> None:
    """In the end the device that was off comes back and confirms: the fleet still works."""
    since = story.feed.last
    campaign = await _campaign(story, "off", [OFF])
    acts: dict[str, Callable[[str], Awaitable[None]]] = {
        "worker": lambda device: killed.worker(story, device),
        "pipeline": lambda device: killed.pipeline(story, device),
        "agent": lambda device: killed.agent(story, device),
        "broker": lambda device: killed.broker(story, device),
        "ingest": lambda _: killed.ingest(story),
        "control": lambda _: kill_control.run(story, campaign),
    }
    for kill in kills:
        await story.until_mono(story.clock.mono() + kill.delay_s)
        await acts[kill.program](kill.device)
    async with story.proving("b", f"v1 on {OFF}, which was off", CAMPAIGN_S, ["control", OFF]) as proof:
        await story.supervisor.start(OFF)
        await campaigns.ended(story, proof, campaign, since)


async def _settle(story: Story, told: Told) -> None:
    """Everything stands still and is compared."""
    told.statuses = {name: await story.agent(name, "status") for name in AGENTS}
    found = await ledgers.drained(story)
    await ledgers.equal(story, found, MIN_ROWS)
    await ledgers.frames(story, found)
    told.restarts, told.planned = story.supervisor.restarts(), measured.planned_restarts(story)
    told.alarms = {name: _alarms(story.supervisor.log_path(name)) for name in AGENTS}


def _alarms(log: Path) -> list[str]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if line["level"] == "error"]
