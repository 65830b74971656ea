"""Three devices enrol by one-time tokens and their agents start: each has its own folder, key, certificate and process."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.local.site import AGENTS
from deploy.local.story import Story, want

ENROL_S, START_S = 60, 60


async def run(story: Story, names: Sequence[str] = tuple(AGENTS)) -> None:
    for name in names:
        await _enrol(story, name)
    for name in names:
        await _start(story, name)


async def _enrol(story: Story, name: str) -> None:
    """The token is made by an operator, so the device counts as pre-registered and nobody has to approve it."""
    async with story.proving("a", f"{name} enrols", ENROL_S, ["control"]) as proof:
        token = (await story.skerry("operator", "enrol", "token", "--label", "site=demo"))["token"]
        server = f"localhost:{story.site.ports.enrolment}"
        await story.act(
            name, story.site.bin("skerry-agent"), "enrol", "--config", str(story.site.config(name)), "--token", token, "--server", server
        )
        known = set(story.devices.values())
        event = await story.operators_event(proof, lambda event: event.event == "device_enrolled" and event.subject not in known)
        story.devices[name] = event.subject
        proof.figures["device"] = event.subject


async def _start(story: Story, name: str) -> None:
    async with story.proving("a", f"{name} runs and polls", START_S, [name]) as proof:
        event = await story.supervisor.start(name)
        proof.source, proof.event_no = "supervisor", event.no
        view = await story.until(
            lambda: story.api.get(f"/v1/devices/{story.devices[name]}"), lambda view: view["state"] == "ACTIVE" and view["last_seen_utc"]
        )
        want(bool(view["profile"]), "the profile was detected", view)
        proof.figures["profile"] = view["profile"]
