"""The picture of what happened, from the event log, the lake and the supervisor's record: one page that needs nothing else."""

from __future__ import annotations

from deploy.local.picture.reading import drawn
from deploy.local.story import Story

DRAW_S = 60


async def run(story: Story) -> None:
    async with story.proving("picture", "drawn from the event log, the lake and the logs", DRAW_S, ["control"]) as proof:
        page = await drawn(story.site)
        story.picture.write_text(page)
        proof.figures.update(page=str(story.picture), kb=round(len(page) / 1024))
