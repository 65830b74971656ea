"""f: what the devices say they accepted is what lies in the lake, by count and by running hash; and e's frames had no gap.

So that both sides stand still, each agent is started once more without a frame source: it sends what it still has, and accepts nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from deploy.local.processes import command
from deploy.local.site import AGENTS, FRAMES_PER_S
from deploy.local.story import Story, want

MIN_ROWS = 5_000
FRAME_US = round(1e6 / FRAMES_PER_S)
MAX_PAUSE_US = 3 * FRAME_US
ROWS_S, DRAIN_S, AUDIT_S = 180, 90, 60


async def run(story: Story) -> None:
    await _enough(story)
    ledgers = await drained(story)
    await equal(story, ledgers, MIN_ROWS)
    await frames(story, ledgers)
    await _pauses(story)


async def _enough(story: Story) -> None:
    async with story.proving("f", f"at least {MIN_ROWS} rows accepted", ROWS_S, ["agent-1"]) as proof:
        total = await story.until(lambda: _accepted(story), lambda rows: rows >= MIN_ROWS, pace_s=2)
        proof.source = "device"
        proof.figures["rows"] = total


async def _accepted(story: Story) -> int:
    return sum([_rows(await story.agent(name, "ledger")) for name in AGENTS])


def _rows(ledger: dict[str, Any], of: str = "") -> int:
    return sum(stream["accepted_rows"] for name, stream in ledger["streams"].items() if of in name)


async def drained(story: Story, names: Sequence[str] = tuple(AGENTS)) -> dict[str, dict[str, Any]]:
    """The ledgers once nothing more is accepted and everything is acked."""
    async with story.proving("f", "devices stand still: everything accepted is acked", DRAIN_S, [*names, "ingest"]) as proof:
        await asyncio.gather(*(_without_frames(story, name) for name in names))
        ledgers = {name: await _settled(story, name) for name in names}
        proof.source = "device"
        proof.figures.update({name: _rows(ledger) for name, ledger in ledgers.items()})
        return ledgers


async def _without_frames(story: Story, name: str) -> None:
    await story.supervisor.stop(name)
    story.site.write_agent(name, frames=False)
    await story.supervisor.start(name)


async def _settled(story: Story, name: str) -> dict[str, Any]:
    async with story.follow(name) as device:
        await device.wait(
            lambda seen: all(stream["accepted_rows"] == stream["acked_rows"] for stream in seen["outbox"]["streams"].values())
        )
    ledger: dict[str, Any] = await story.agent(name, "ledger")
    return ledger


async def equal(story: Story, ledgers: dict[str, dict[str, Any]], min_rows: int) -> None:
    async with story.proving("f", "bronze + quarantine + gaps = ledgers, by count and hash", AUDIT_S, ["ingest"]) as proof:
        lake = (await story.audit())["streams"]
        devices = {stream: entry for ledger in ledgers.values() for stream, entry in ledger["streams"].items() if entry["accepted_rows"]}
        want(set(lake) == set(devices), "the same streams", {"lake": sorted(lake), "devices": sorted(devices)})
        for stream, entry in devices.items():
            want(lake[stream]["rows"] == entry["accepted_rows"], f"{stream}: equal counts", (lake[stream], entry))
            want(lake[stream]["running_hash"] == entry["running_hash"], f"{stream}: equal running hashes", (lake[stream], entry))
        counted = sum(entry["accepted_rows"] for entry in devices.values())
        want(counted >= min_rows, "enough rows", counted)
        proof.source = "lake"
        proof.figures.update(rows=counted, streams=len(devices), hashes=[entry["running_hash"][:12] for entry in devices.values()])


async def frames(story: Story, ledgers: dict[str, dict[str, Any]]) -> None:
    async with story.proving("f", "frames = accepted rows + counted refusals", AUDIT_S) as proof:
        for name, ledger in ledgers.items():
            frames, refused, rows = ledger["frames"], ledger["refused"] + ledger["kept"], _rows(ledger, "/live/")
            want(frames == rows + refused, f"{name}: every frame is accounted for", ledger)
            proof.figures[name] = f"{frames} = {rows} + {refused}"


async def _pauses(story: Story) -> None:
    """From the rows themselves: their monotonic time is the device's, and the same machine's as the windows'."""
    async with story.proving("e", "no pause over three frame times while the cloud was down", AUDIT_S) as proof:
        windows = {name: [round(begin * 1e6), round(end * 1e6)] for name, (begin, end) in story.cloud_down.items()}
        want(set(windows) == {"control", "ingest", "broker"}, "all three were down once", windows)
        argv = (story.site.bin("python"), "-m", "deploy.local.lake", "pauses", str(story.site.lake))
        done = await command(argv, story.site.owner("operator"), story.environment_of("operator"), json.dumps(windows))
        want(done.returncode == 0, "the lake can be read", done.stderr)
        seen = json.loads(done.stdout)
        longest = {name: max(device["longest_us"] for device in devices.values()) for name, devices in seen.items()}
        proof.source = "lake"
        proof.figures.update({f"{name} longest ms": us / 1000 for name, us in longest.items()}, limit_ms=MAX_PAUSE_US / 1000)
        want(max(longest.values()) <= MAX_PAUSE_US, "no pause is longer", seen)
