"""h: v3 once more, without a shadow. It goes live on one device; its absolute latency stops it, and the device returns to its own v2.

The order is a new one with a higher fence, so a device that remembered v3 as bad would take it all the same.
"""

from __future__ import annotations

from datetime import datetime

from contracts.operator import CampaignView, ExecutionView
from contracts.states import State
from deploy.local.steps import campaigns
from deploy.local.steps.bad_in_shadow import answers
from deploy.local.story import Story, want

HALT_S, BACK_S = 120, 120
LIMIT_US, FRAMES = 2_000, 60
PROBATION_S = 8  # the campaign judges FRAMES frames before the device's own probation is over


async def run(story: Story, exposed: str) -> None:
    since, fence = story.feed.last, _highest_fence(story)
    gates = ("install_success=1", f"latency_p95_us={LIMIT_US}@{FRAMES}")
    async with story.proving("h", "v3 without a shadow: its latency fails on one device, the campaign halts", HALT_S, ["control"]) as proof:
        campaign = await campaigns.begin(story, "v3-live", 3, ["1", "all"], gates, probation_s=PROBATION_S)
        event, seen = await campaigns.halted(story, proof, campaign, since)
        failed = campaigns.failed(seen, 1)
        want("latency_p95_us" in failed and failed["latency_p95_us"].samples >= FRAMES, "the latency gate failed", campaigns.gates(seen))
        began = await story.feed.wait(lambda event: (event.event, event.subject) == ("campaign_created", campaign), since)
        facts = story.record.facts
        facts["live_to_halted_s"] = _between(began.utc, event.utc)
        proof.figures.update(campaign=campaign, begun_to_halted_s=facts["live_to_halted_s"], **campaigns.gates(seen, 1))
    async with story.proving("h", "the exposed device is back on its own v2, by a new execution", BACK_S, ["control", "ingest"]) as proof:
        install, back = _executions(await campaigns.ended(story, proof, campaign, since, state="ROLLED_BACK"))
        want(fence < install.fence < back.fence, "new fences, in order", (fence, install.fence, back.fence))
        want((install.device, back.device) == (exposed, exposed), "one device, the same as before", (install, back))
        want(back.state is State.CONFIRMED and back.target_digest == story.digests[2] != install.target_digest, "back on v2", back)
        await _says_so_itself(story, back)
        lake = await answers(story, story.digests[3])
        others = {device: seen["rows"] for device, seen in lake.items() if device != exposed}
        want(lake[exposed]["rows"] > 0 and not any(others.values()), "v3 answered frames there, and nowhere else", lake)
        facts["live_to_back_s"] = _between(began.utc, lake[exposed]["next_utc"])
        ended = await campaigns.moved(story, proof, campaign, ("ROLLED_BACK",), since)
        facts["live_to_confirmed_back_s"] = _between(began.utc, ended.utc)
        facts["live_frames_by_the_bad_model"] = lake[exposed]["rows"]
        proof.figures.update(
            rollback=back.id, digest=back.target_digest, live_frames_by_v3=lake[exposed]["rows"], begun_to_back_s=facts["live_to_back_s"]
        )


def _highest_fence(story: Story) -> int:
    return max(int(event.data["fence"]) for event in story.feed.events if event.event == "execution_moved" and "fence" in event.data)


def _executions(seen: CampaignView) -> tuple[ExecutionView, ExecutionView]:
    """The one install and the one roll back."""
    every = [execution for wave in seen.waves for execution in wave.executions]
    want([execution.kind for execution in every] == ["install", "rollback"], "one install and its roll back", every)
    return every[0], every[1]


async def _says_so_itself(story: Story, back: ExecutionView) -> None:
    name = next(name for name, device in story.devices.items() if device == back.device)
    own = await story.agent(name, "status")
    want(own["running_digest"] == own["confirmed_digest"] == back.target_digest, f"{name} says so itself", own)
    want((own["execution"], own["state"]) == (back.id, "CONFIRMED"), "by that execution", own)


def _between(earlier: str, later: str) -> float:
    return round((datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds(), 2)
