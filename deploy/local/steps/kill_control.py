"""e, the control plane: killed with an execution open and a request unanswered, in the middle of a campaign."""

from __future__ import annotations

import asyncio

from contracts.errors import SkerryError
from contracts.operator import CampaignView
from contracts.states import TERMINAL
from deploy.local.steps import campaigns
from deploy.local.story import Story, want

KILL_S = 90
UNANSWERED_S = 0.3  # time in which a working control plane answers many times over


async def run(story: Story, campaign: str) -> None:
    async with story.proving("e", "control plane killed in the middle of a wave, and back", KILL_S, ["control"]) as proof:
        seen = await story.until(lambda: campaigns.view(story, campaign), lambda view: bool(_open(view)))
        frozen_s = story.clock.mono()
        story.supervisor.freeze("control")
        request = asyncio.create_task(story.api.get("/v1/status"))
        await asyncio.wait((request,), timeout=UNANSWERED_S)
        want(not request.done(), "a request is unanswered", request)
        killed = story.supervisor.kill("control")
        broken = (await asyncio.gather(request, return_exceptions=True))[0]
        want(isinstance(broken, SkerryError), "that request fails", broken)
        ready = await story.supervisors_event(proof, lambda event: event.name == "control" and event.what == "ready", KILL_S, killed.no)
        story.cloud_down["control"] = (frozen_s, ready.mono_s)
        proof.figures.update(open_executions=_open(seen), unanswered="GET /v1/status", back_s=round(ready.mono_s - killed.mono_s, 2))


def _open(view: CampaignView) -> list[str]:
    return [f"{execution.state.value}" for wave in view.waves for execution in wave.executions if execution.state not in TERMINAL]
