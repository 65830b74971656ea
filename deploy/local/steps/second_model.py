"""b, c: the alias moves to v2; a campaign of two waves, judged by the devices' own reports; all three confirm v2.

In the middle of it, with an execution open and a request unanswered, the control plane is killed (e).
"""

from __future__ import annotations

from deploy.local.steps import campaigns, kill_control, lies_of_a_bundle, released
from deploy.local.story import Story, want

CAMPAIGN_S, CONFIRMED_S = 180, 60


async def run(story: Story) -> None:
    async with story.proving("b", "v2 trained meanwhile", released.TRAIN_S):
        await story.training
    await released.register(story, 2)
    story.training = story.beside(released.train(story, 3))
    await released.release(story, 2)
    await lies_of_a_bundle.run(story, 2)
    since = story.feed.last
    gates = ("install_success=1", f"latency_p95_us={campaigns.P95_LIMIT_US}@{campaigns.MIN_FRAMES}")
    async with story.proving("b", "wave 1 (one device) passed", CAMPAIGN_S, ["control", "agent-1"]) as proof:
        campaign = await campaigns.begin(story, "second-model", 2, ["1", "all"], gates)
        await campaigns.wave(story, proof, campaign, number=1, state="PASSED", after=since)
        seen = await campaigns.view(story, campaign)
        proof.figures.update(campaign=campaign, **campaigns.gates(seen, 1))
    await kill_control.run(story, campaign)
    async with story.proving("b", "wave 2 (the rest) passed", CAMPAIGN_S, ["control", "agent-1"]) as proof:
        seen = await campaigns.ended(story, proof, campaign, since)
        sizes = [len(wave.executions) for wave in seen.waves]
        want(sizes == [1, 2], "waves of one device and of two", sizes)
        want(all(gate.verdict == "passed" for wave in seen.waves for gate in wave.gates), "every gate passed", campaigns.gates(seen))
        p95 = [gate.samples for wave in seen.waves for gate in wave.gates if gate.metric == "latency_p95_us"]
        want(min(p95) >= campaigns.MIN_FRAMES, "the latency gate saw its frames", p95)
        story.digests[2] = seen.waves[0].executions[0].target_digest
        proof.figures.update(campaigns.gates(seen, 2))
    await _confirmed(story, since)


async def _confirmed(story: Story, since: int) -> None:
    async with story.proving("c", "all three report v2 confirmed after probation", CONFIRMED_S, ["agent-1"]) as proof:
        want(story.digests[2] != story.digests[1], "v2 is another bundle", story.digests)
        for name, device in story.devices.items():
            seen = await story.until(
                lambda device=device: story.api.get(f"/v1/devices/{device}"),  # type: ignore[misc]
                lambda view: view["running_digest"] == view["confirmed_digest"] == story.digests[2],
            )
            own = await story.agent(name, "status")
            want(own["confirmed_digest"] == story.digests[2], f"{name} says so itself", own)
            proof.figures[name] = seen["confirmed_digest"]
        await story.operators_event(proof, lambda event: event.event == "campaign_moved" and event.data.get("state") == "SUCCEEDED", since)
