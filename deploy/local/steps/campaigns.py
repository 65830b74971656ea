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
SHADOW_PAIRS = 150
AGREEMENT_MARGIN = 0.1
# so that a demo is short; what a finer gate finds is shown by simulation (docs/explanation/gates.md)
COARSE = f"coarse ones: margin {AGREEMENT_MARGIN}, {SHADOW_PAIRS} pairs"
SHADOW_GATES = (
    "install_success=1",
    f"agreement={AGREEMENT_MARGIN}@{SHADOW_PAIRS}",
    f"latency_p95_vs_incumbent=3@{SHADOW_PAIRS}",
)
ENDED = ("SUCCEEDED", "PAUSED", "ROLLED_BACK", "ABORTED")


async def begin(
    story: Story,
    name: str,
    version: int,
    waves: Sequence[str],
    gates: Sequence[str],
    *,
    shadow_pairs: int = 0,
    probation_s: int = PROBATION_S,
) -> str:
    """`skerry campaign create`; the campaign's id."""
    waves_and_gates = [part for wave in waves for part in ("--wave", wave)] + [part for gate in gates for part in ("--gate", gate)]
    proof = ("--shadow-pairs", str(shadow_pairs), "--probation-s", str(probation_s), "--probation-frames", str(MIN_FRAMES))
    made = await story.skerry("operator", "campaign", "create", name, "--release", story.releases[version], *waves_and_gates, *proof)
    return str(made["id"])


async def view(story: Story, campaign: str) -> CampaignView:
    return CampaignView(**await story.api.get(f"/v1/campaigns/{campaign}"))


async def moved(story: Story, proof: Proof, campaign: str, states: Sequence[str], after: int) -> EventView:
    """Wait until it has moved into one of `states`."""
    return await story.operators_event(
        proof, lambda event: (event.event, event.subject) == ("campaign_moved", campaign) and event.data["state"] in states, after
    )


async def halted(story: Story, proof: Proof, campaign: str, after: int) -> tuple[EventView, CampaignView]:
    """Wait until a gate has stopped it in its first wave; SETUP_STEP_FAILED when it went another way, or further."""
    event = await moved(story, proof, campaign, ("ROLLING_BACK", *ENDED), after)
    seen = await view(story, campaign)
    want(event.data["state"] == "ROLLING_BACK", f"campaign {campaign} is stopped", _short(seen))
    want([wave.state for wave in seen.waves] == ["FAILED", *["PENDING"] * (len(seen.waves) - 1)], "in its first wave", _short(seen))
    return event, seen


async def ended(story: Story, proof: Proof, campaign: str, after: int, *, state: str = "SUCCEEDED") -> CampaignView:
    """Wait until it has ended; SETUP_STEP_FAILED with its reason when it did not end as `state`."""
    await moved(story, proof, campaign, ENDED, after)
    seen = await view(story, campaign)
    want(seen.state == state, f"campaign {campaign} ends as {state}", _short(seen))
    return seen


def _short(seen: CampaignView) -> str:
    return json.dumps(seen.model_dump(mode="json"))[:1500]


async def wave(story: Story, proof: Proof, campaign: str, *, number: int, state: str, after: int) -> EventView:
    """Wait until wave `number` has entered `state`."""

    def wanted(event: EventView) -> bool:
        return (
            event.event == "wave_moved"
            and event.subject.startswith(campaign)
            and (event.data.get("wave"), event.data.get("state")) == (number, state)
        )

    return await story.operators_event(proof, wanted, after)


def failed(seen: CampaignView, number: int) -> dict[str, GateView]:
    """metric -> the gate, of those that wave `number` failed."""
    return {gate.metric: gate for gate in seen.waves[number - 1].gates if gate.verdict == "failed"}


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
