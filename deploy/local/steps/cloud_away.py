"""j: the cloud goes away for ten seconds: the control plane, then the broker, then both. Their processes end; no frame is the less for it.

Frames are counted from the rows in Delta, by the devices' own monotonic time: those of the ten seconds against those of the ten before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from deploy.local.site import AGENTS
from deploy.local.steps.ledgers import MAX_PAUSE_US
from deploy.local.story import Story, want

AWAY_S = 10
MAX_DIFFERENCE = 0.05
BACK_S, COUNT_S = 180, 60  # an agent may just have begun to wait for a minute before it connects anew
Window = tuple[float, float]  # monotonic seconds


async def run(story: Story) -> None:
    windows: dict[str, Window] = {}
    for programs in (("control",), ("broker",), ("control", "broker")):
        windows |= await _away(story, programs)
    await _frames(story, windows)


async def _away(story: Story, programs: Sequence[str]) -> dict[str, Window]:
    """Ten seconds of peace, ten without `programs`, and everything caught up."""
    name = " and ".join(programs)
    async with story.proving("j", f"{name} away for {AWAY_S} s, and everything caught up", BACK_S, programs) as proof:
        await story.until_mono(story.clock.mono() + AWAY_S)
        stopped_s = story.clock.mono()
        await asyncio.gather(*(story.supervisor.stop(program) for program in programs))
        gone_s = story.clock.mono()
        await story.until_mono(gone_s + AWAY_S)
        await asyncio.gather(*(story.supervisor.start(program) for program in programs))
        back_s = story.clock.mono()
        await asyncio.gather(*(_caught_up(story, agent) for agent in AGENTS))
        proof.source = "device"
        proof.figures.update(away_s=round(back_s - gone_s, 1), caught_up_s=round(story.clock.mono() - back_s, 1))
    return {f"before {name}": (stopped_s - AWAY_S, stopped_s), f"without {name}": (gone_s, gone_s + AWAY_S)}


async def _caught_up(story: Story, agent: str) -> None:
    """Acks (each by count and hash) cover all that was accepted when the cloud was back; no report waits; polls are answered."""
    goal = _rows(await story.agent(agent, "status"), "accepted_rows")
    async with story.follow(agent) as device:
        await device.wait(lambda seen: _rows(seen, "acked_rows") >= goal and not seen["reports_waiting"] and not seen["poll_trouble"])


def _rows(seen: dict[str, Any], which: str) -> int:
    return sum(stream[which] for stream in seen["outbox"]["streams"].values())


async def _frames(story: Story, windows: dict[str, Window]) -> None:
    async with story.proving("j", "as many frames without the cloud as before, and no pause", COUNT_S, ["ingest"]) as proof:
        asked = json.dumps({name: [round(at * 1e6) for at in window] for name, window in windows.items()})
        argv = ("-m", "deploy.local.lake", "pauses", str(story.site.lake))
        seen = json.loads((await story.act("operator", story.site.bin("python"), *argv, given=asked)).stdout)
        proof.source = "lake"
        for name in (name.removeprefix("without ") for name in windows if name.startswith("without ")):
            before, without = seen[f"before {name}"], seen[f"without {name}"]
            frames = {device: (before[device]["frames"], without[device]["frames"]) for device in story.devices.values()}
            longest_us = max(without[device]["longest_us"] for device in story.devices.values())
            proof.figures |= {f"{name} frames": list(frames.values()), f"{name} longest ms": longest_us / 1000}
            want(all(_alike(*pair) for pair in frames.values()), f"frames without {name} differ by at most 5 %", frames)
            want(longest_us <= MAX_PAUSE_US, f"no pause without {name} is longer than three frame times", longest_us)


def _alike(before: int, without: int) -> bool:
    return before > 0 and abs(without - before) <= MAX_DIFFERENCE * before
