"""A release while its builder and its signer are killed: the builder in the middle of a build, the signer with a question unanswered.

What was begun is done again, under the same number; nobody has to ask twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from deploy.local.steps import released
from deploy.local.story import Story, want

KILL_S = 60


async def release_under_fire(story: Story, version: int, delays_s: Sequence[float]) -> None:
    """`released.release`; one kill of each of the two for each delay, which is how long after the start of its work."""
    since = story.feed.last
    await asyncio.gather(released.release(story, version), _kill_both(story, since, delays_s))


async def _kill_both(story: Story, since: int, delays_s: Sequence[float]) -> None:
    for attempt, delay_s in enumerate(delays_s, start=1):
        await _builder(story, since, attempt, delay_s)
    await story.feed.wait(lambda event: event.event == "release_built", since)
    for _ in delays_s:
        await _signer(story)
    story.supervisor.thaw("control")


async def _builder(story: Story, since: int, attempt: int, delay_s: float) -> None:
    async with story.proving("e", "builder killed in a build, and back", KILL_S, ["build", "control"]) as proof:
        await story.operators_event(proof, lambda event: event.event == "build_started" and event.data["attempt"] == attempt, since)
        await story.until_mono(story.clock.mono() + delay_s)
        story.supervisor.freeze("build")
        release = (await story.api.get("/v1/releases"))[0]
        want(release["state"] == "BUILDING", "it was building when it died", release)
        killed = story.supervisor.kill("build")
        ready = await story.supervisors_event(proof, lambda event: event.name == "build" and event.what == "ready", KILL_S, killed.no)
        proof.figures.update(attempt=attempt, after_s=round(delay_s, 2), back_s=round(ready.mono_s - killed.mono_s, 2))


async def _signer(story: Story) -> None:
    """Frozen at once, so that the question stays unanswered. (At each single write: test_signer_crash.py.)

    Until the next kill the control plane stands still: it could ask again, and be answered, before the new signer is frozen.
    """

    async def questions() -> int:
        return _not_accepted(story.site.run("signer") / "signer.sock")

    async with story.proving("e", "signer killed with a release to sign, and back", KILL_S, ["signer", "control"]) as proof:
        story.supervisor.freeze("signer")
        story.supervisor.thaw("control")
        asked = await story.until(questions, lambda count: count > 0)
        story.supervisor.freeze("control")
        killed = story.supervisor.kill("signer")
        ready = await story.supervisors_event(proof, lambda event: event.name == "signer" and event.what == "ready", KILL_S, killed.no)
        proof.figures.update(questions=asked, back_s=round(ready.mono_s - killed.mono_s, 2))


def _not_accepted(socket: Path) -> int:
    """How many connections wait in the queue of a Unix socket's owner, as the kernel lists them: without an inode of their own."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return sum(fields[6:] == ["0", str(socket)] for fields in rows)
