"""Nobody tells the control plane which model is bad: published as v2 the bad one is halted, and published as v3 the good one is confirmed.

The demo's own steps, on one device: the bad model is halted in its shadow; the good one passes the same gates beside the same incumbent,
is given leave to activate, and is confirmed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from contracts.operator import CampaignView
from deploy.local.record import Proof
from deploy.local.steps import bad_in_shadow, campaigns, enrolled, first_model, released, setup
from deploy.local.story import Story
from tests.integration.local_site import local_site

PORT_BASE, SEED = 23_260, 20
LIMIT_S, CAMPAIGN_S = 400, 120
RECIPES = {1: 1, 2: 3, 3: 2}  # version -> recipe
AGENT = "agent-1"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S)]


@dataclass(frozen=True)
class Told:
    proofs: list[Proof]
    good: CampaignView
    activations: list[str]  # executions that were given leave to activate after a shadow
    confirmed: str


@pytest.fixture(scope="module")
def told() -> Told:
    return asyncio.run(_tell())


async def _tell() -> Told:
    async with local_site(PORT_BASE, SEED, (setup.run,)) as story:
        story.recipes = RECIPES
        await enrolled.run(story, [AGENT])
        await first_model.run(story)
        await _released(story, 2)
        story.training = story.beside(released.train(story, 3))
        await bad_in_shadow.run(story, 2, ["all"])
        await _released(story, 3)
        good = await _in_shadow(story, 3)
        activations = [event.subject for event in story.feed.events if event.event == "execution_activated"]
        device = await story.api.get(f"/v1/devices/{story.devices[AGENT]}")
        return Told(story.record.proofs, good, activations, device["confirmed_digest"])


async def _released(story: Story, version: int) -> None:
    await story.training
    await released.register(story, version)
    await released.release(story, version)


async def _in_shadow(story: Story, version: int) -> CampaignView:
    since, gates = story.feed.last, campaigns.SHADOW_GATES
    async with story.proving("h", f"v{version} in the shadow: passes and is confirmed", CAMPAIGN_S, ["control", AGENT]) as proof:
        campaign = await campaigns.begin(story, "good-in-shadow", version, ["all"], gates, shadow_pairs=campaigns.SHADOW_PAIRS)
        return await campaigns.ended(story, proof, campaign, since)


def test_the_bad_model_is_halted_as_v2(told: Told) -> None:
    halted = next(proof for proof in told.proofs if proof.what.startswith("v2 in the shadow"))
    for metric in ("agreement", "latency_p95_vs_incumbent"):
        assert halted.figures[f"wave 1 {metric}"].startswith("failed: ")
    answered = next(proof for proof in told.proofs if proof.what == "v2 answered no live frame")
    assert answered.figures == {f"{AGENT} rows by v2": 0}


def test_the_good_model_passes_its_shadow_as_v3_and_is_confirmed(told: Told) -> None:
    gates = {gate.metric: gate for gate in told.good.waves[0].gates}
    assert {metric: gate.verdict for metric, gate in gates.items()} == {
        "install_success": "passed", "agreement": "passed", "latency_p95_vs_incumbent": "passed",
    }  # fmt: skip
    assert gates["agreement"].samples >= campaigns.SHADOW_PAIRS
    (execution,) = told.good.waves[0].executions
    assert (execution.kind, execution.state.value, execution.target_digest) == ("install", "CONFIRMED", told.confirmed)
    assert told.activations == [execution.id], "leave to activate came after the shadow, and to nobody else"
