"""Kills: each program three times by SIGKILL, at random instants while it is busy. Afterwards the lake equals the ledgers.

What "busy" means, and how soon who must be back, is the demo's (deploy/local/steps/killed.py). Order, devices and delays come from one
seed, which is printed; SKERRY_KILLS_SEED=N draws them again.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.record import Proof
from deploy.local.site import AGENTS, CLOUD
from deploy.local.steps.killed import AGENT_BACK_S, WORKER_BACK_S
from tests.integration.storm import IN_THE_CLOUD, KILLS, ON_A_DEVICE, Told, drawn, storm

LIMIT_S = 600
BUSY = {
    "builder": "attempt", "signer": "questions", "worker": "cells_occupied", "pipeline": "rows_pending", "agent": "accepted_not_acked",
    "ingest": "received_not_committed", "broker": "sent_not_pubacked", "control": "open_executions",
}  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S)]


Say = Callable[[str], None]


@pytest.fixture(scope="module")
def say(request: pytest.FixtureRequest) -> Say:
    """Prints whether the tests pass or not: the seed and what was in flight are part of the result."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def past_the_capture(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)

    return past_the_capture


@pytest.fixture(scope="module")
def told(say: Say) -> Told:
    plan = drawn(int(os.environ.get("SKERRY_KILLS_SEED") or random.SystemRandom().randrange(10_000)))
    say(f"\nkills by seed {plan.seed}; the same again: SKERRY_KILLS_SEED={plan.seed} ./dev test tests/integration/{Path(__file__).name}")
    told = asyncio.run(storm(plan))
    for proof in all_kills(told):
        say(f"  {proof.what:65} {', '.join(f'{name} {value}' for name, value in proof.figures.items())}")
    return told


def all_kills(told: Told) -> list[Proof]:
    return [proof for proof in told.proofs if " killed " in proof.what]


def kills_of(told: Told, program: str) -> list[Proof]:
    return [proof for proof in all_kills(told) if proof.what.startswith(f"{program} ")]


def test_a_seed_gives_the_same_kills_again() -> None:
    assert drawn(7) == drawn(7)
    assert len({drawn(seed).kills for seed in range(10)}) == 10
    assert Counter(kill.program for kill in drawn(7).kills) == dict.fromkeys((*ON_A_DEVICE, *IN_THE_CLOUD), KILLS)


def test_lake_and_ledgers_are_equal_after_all_of_it(told: Told) -> None:
    assert told.failure == ""
    assert [proof.what for proof in told.proofs if not proof.ok] == []
    compared = [proof for proof in told.proofs if proof.what.startswith("bronze + quarantine + gaps")]
    assert [len(proof.figures["hashes"]) for proof in compared] == [len(AGENTS)]


@pytest.mark.parametrize("program", BUSY)
def test_each_was_busy_each_time(told: Told, program: str) -> None:
    seen = [proof.figures[BUSY[program]] for proof in kills_of(told, program)]
    assert len(seen) == KILLS
    assert all(seen), seen


def test_worker_and_agent_were_back_in_time(told: Told) -> None:
    limits = {"worker": WORKER_BACK_S, "agent": AGENT_BACK_S}
    late = {name: [proof.figures["back_s"] for proof in kills_of(told, name)] for name in limits}
    assert all(back_s <= limits[name] for name, times in late.items() for back_s in times), late


def test_nothing_else_was_restarted(told: Told) -> None:
    """The supervisor's programs by its own count; workers and pipelines by the alarms of their agents."""
    assert told.restarts == told.planned
    assert {name: count for name, count in told.restarts.items() if name in CLOUD} == dict.fromkeys(CLOUD, KILLS)
    assert sum(told.restarts[name] for name in AGENTS) == KILLS
    died = Counter(event for events in told.alarms.values() for event in events if event.endswith("_died"))
    assert died == {"worker_died": KILLS, "pipeline_died": KILLS}


def test_no_circuit_opened(told: Told) -> None:
    assert {name: [worker["state"] for worker in seen["workers"].values()] for name, seen in told.statuses.items()} == {
        name: ["ready"] for name in AGENTS
    }
