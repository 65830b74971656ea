"""Campaigns: made by the operator's CLI, followed in the operators' log, judged by what the devices reported."""

from __future__ import annotations

import json
from collections.abc import Sequence

from contracts.operator import CampaignView, EventView, GateView
from deploy.local.record import Proof
from deploy.local.story import Story, want

P95_LIMIT_US = 20_000  # of a frame time of 50 ms
MIN_FRAMES = 100
PROBATION_S = 5
ENDED = ("SUCCEEDED", "PAUSED", "ROLLED_BACK", "ABORTED")


async def begin(story: Story, name: str, version: int, waves: Sequence[str], gates: Sequence[str]) -> str:
    """`skerry campaign create`; the campaign's id."""
    waves_and_gates = [part for wave in waves for part in ("--wave", wave)] + [part for gate in gates for part in ("--gate", gate)]
    probation = ("--probation-s", str(PROBATION_S), "--probation-frames", str(MIN_FRAMES))
    made = await story.skerry("operator", "campaign", "create", name, "--release", story.releases[version], *waves_and_gates, *probation)
    return str(made["id"])


async def view(story: Story, campaign: str) -> CampaignView:
    return CampaignView(**await story.api.get(f"/v1/campaigns/{campaign}"))


async def ended(story: Story, proof: Proof, campaign: str, after: int) -> CampaignView:
    """Wait until it has ended; SETUP_STEP_FAILED with its reason when it did not succeed."""
    await story.operators_event(proof, lambda event: event.event == "campaign_moved" and event.data.get("state") in ENDED, after)
    seen = await view(story, campaign)
    want(seen.state == "SUCCEEDED", f"campaign {campaign} succeeds", json.dumps(seen.model_dump(mode="json"))[:1500])
    return seen


async def wave(story: Story, proof: Proof, campaign: str, *, number: int, state: str, after: int) -> EventView:
    """Wait until wave `number` has entered `state`."""

    def wanted(event: EventView) -> bool:
        return (
            event.event == "wave_moved"
            and event.subject.startswith(campaign)
            and (event.data.get("wave"), event.data.get("state")) == (number, state)
        )

    return await story.operators_event(proof, wanted, after)


def gates(seen: CampaignView, only_wave: int | None = None) -> dict[str, str]:
    """`wave 1 latency_p95_us` -> verdict, value and samples of each gate."""
    return {
        f"wave {wave.number} {gate.metric}": _verdict(gate)
        for wave in seen.waves
        for gate in wave.gates
        if only_wave in (None, wave.number)
    }


def _verdict(gate: GateView) -> str:
    if gate.value is None:
        return f"{gate.verdict} ({gate.reason})"
    return f"{gate.verdict}: {gate.value:g}, limit {gate.limit:g}, n {gate.samples}"
