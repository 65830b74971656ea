"""a: v1 on all three devices. Gates that need an incumbent or a shadow are not applicable, and say why."""

from __future__ import annotations

from deploy.local.steps import campaigns, released
from deploy.local.story import Story, want

CAMPAIGN_S = 120


async def run(story: Story) -> None:
    async with story.proving("a", "v1 trained", released.TRAIN_S):
        await story.training
    await released.register(story, 1)
    story.training = story.beside(released.train(story, 2))
    await released.release(story, 1)
    async with story.proving("a", "v1 on all three", CAMPAIGN_S, ["control", "agent-1"]) as proof:
        since = story.feed.last
        gates = ("install_success=1", "agreement=0.1@150", "latency_p95_vs_incumbent=3@100")
        campaign = await campaigns.begin(story, "first-model", 1, ["all"], gates)
        seen = await campaigns.ended(story, proof, campaign, since)
        verdicts = {gate.metric: gate for gate in seen.waves[0].gates}
        want(verdicts["install_success"].verdict == "passed", "the install gate passed", verdicts)
        for metric in ("agreement", "latency_p95_vs_incumbent"):
            want(
                verdicts[metric].verdict == "not_applicable" and bool(verdicts[metric].reason),
                f"{metric} is not applicable, with its reason",
                verdicts,
            )
        story.digests[1] = seen.waves[0].executions[0].target_digest
        proof.figures.update(campaign=campaign, digest=story.digests[1], **campaigns.gates(seen))
