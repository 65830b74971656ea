"""h: the other devices never saw v3: nothing was signed for them, they asked for nothing of it, and none of it lies on their disks.

That the same looking finds something on the exposed device shows that it would have been found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from deploy.local.picture.faults import lines
from deploy.local.story import Story, want

LOOK_S = 30


async def orders(story: Story) -> dict[str, int]:
    """Device -> number of the newest order that was signed for it."""
    return {device: (await story.api.get(f"/v1/devices/{device}"))["desired_generation"] for device in story.devices.values()}


async def run(story: Story, exposed: str, before: dict[str, int]) -> None:
    async with story.proving("h", "the others never saw v3: no order, no request, no slot", LOOK_S, ["control"]) as proof:
        now, own = await orders(story), await _own_digests(story)
        asked = _asked(story.supervisor.log_path("control"), own)
        for name, device in story.devices.items():
            slots = [entry for entry in _slots(story, name) if story.digests[3] in entry]
            seen = proof.figures[name] = {"new_order": now[device] != before[device], "requests": asked[device], "slots": len(slots)}
            if device == exposed:
                want(seen["new_order"] and asked[device] >= len(own), "the exposed device is seen to have had it", seen)
            else:
                want(not any(seen.values()), f"{name} had nothing of it", seen)


async def _own_digests(story: Story) -> frozenset[str]:
    """The manifest and the members of v3 that no earlier bundle has."""
    members = {version: await _members(story, story.digests[version]) for version in (1, 2, 3)}
    return frozenset({story.digests[3], *members[3]} - members[1] - members[2])


async def _members(story: Story, digest: str) -> frozenset[str]:
    manifest = await story.api.get(f"/v1/blobs/{digest}")
    return frozenset(member["sha256"] for member in manifest["members"].values())


def _asked(log: Path, digests: Iterable[str]) -> Counter[str]:
    """Device -> requests for one of `digests`, as the control plane's log names them."""
    wanted = frozenset(digests)
    found = (line for line in lines(log.read_text(errors="replace")) if line.get("event") == "content_asked" and line["sha256"] in wanted)
    return Counter(str(line["device_id"]) for line in found)


def _slots(story: Story, name: str) -> list[str]:
    """What lies below a device's slots, staged or whole."""
    folder = story.site.state(name) / "slots"
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir()]
