"""i, the director: somebody has taken over the control plane and answers in its place, with its keys; and the floor under the epoch.

The order matters: an older digest is accepted as a roll back first; then the impostor lies; then the real control plane comes back,
with the floor raised by its operator, and the same device refuses what it ran before.
"""

from __future__ import annotations

from typing import Any

from deploy.local import intact
from deploy.local.following import following
from deploy.local.steps.lies import LIE_S, OTHER, VICTIM, attacker, refused, told, unharmed
from deploy.local.steps.lies_of_a_bundle import order
from deploy.local.story import Story, want

LIES = {
    "older": ("metadata older than the device has seen", "TUF_ROLLBACK"),
    "expired": ("a director signed with a past expiry", "TUF_EXPIRED"),
    "misrouted": ("an assignment for another device", "ASSIGNMENT_DEVICE"),
}
RAISED_FLOOR = 2  # every bundle of the story has epoch 1


async def run(story: Story) -> None:
    await _back_to_an_older_digest(story)
    await _taken_over(story)
    async with refused(story, "a bundle below the raised security epoch", ordered=True) as proof:
        await order(story, proof, "below-the-floor", 2, "BUNDLE_EPOCH")


async def _back_to_an_older_digest(story: Story) -> None:
    async with story.proving("i", "an older digest, at its epoch's floor, is accepted as a roll back", LIE_S, ["control", VICTIM]) as proof:
        moved = await order(story, proof, "back-to-v1", 1)
        want(moved["target_digest"] == story.digests[1], "it is v1", moved)
        await story.until(lambda: intact.look(story.site, VICTIM), lambda seen: seen.history[-1] == story.digests[1])
        proof.figures["digest"] = story.digests[1]


async def _taken_over(story: Story) -> None:
    since, seen = story.feed.last, dict[str, Any]()
    async with story.proving("i", "control plane taken over by an impostor with all its keys, and back", 2 * LIE_S, ["control"]) as proof:
        await story.supervisor.stop("control")
        for lie, (_, code) in LIES.items():
            seen[lie] = await _lie(story, lie, code)
        with story.site.config("control").open("a") as config:
            config.write(f"security_epoch_floor = {RAISED_FLOOR}\n")
        ready = await story.supervisor.start("control")
        proof.source, proof.event_no, proof.figures["lies"] = "supervisor", ready.no, len(seen)
    for lie, (what, code) in LIES.items():
        async with story.proving("i", what, LIE_S, ["control", VICTIM]) as proof:
            await told(story, proof, "device_event", story.devices[VICTIM], code, since)
            proof.figures.update(seen[lie])


async def _lie(story: Story, lie: str, code: str) -> dict[str, Any]:
    """Until the device has met it; what the device looked like before and after."""
    site = story.site
    argv = attacker(
        story, "director", port=site.ports.devices, site=site.keys, database=site.state("control") / "skerry.db", lie=lie,
        device=story.devices[VICTIM], other=story.devices[OTHER],
    )  # fmt: skip
    before = await intact.look(site, VICTIM)
    async with (
        story.follow(VICTIM) as device,
        following("impostor", argv, site.owner("control"), story.environment_of("control")) as impostor,
    ):
        await impostor.wait(lambda said: "ready" in said)
        await device.wait(lambda status: status["poll_trouble"] == code)
    after = await story.until(lambda: intact.look(site, VICTIM), lambda now: now.frames > before.frames)
    return unharmed(before, after)
