"""h: every frame to incumbent and v3; agreement and relative latency both fail, the campaign halts, and v3 has answered nothing."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from contracts.operator import EventView
from deploy.local.steps import campaigns
from deploy.local.story import Story, want

HALT_S, ENDED_S = 120, 90
GATES = {"agreement", "latency_p95_vs_incumbent"}


async def run(story: Story) -> str:
    """The id of the device that ran v3 in its shadow."""
    since = story.feed.last
    async with story.proving("h", "v3 in the shadow: both shadow gates fail, the campaign halts", HALT_S, ["control", "agent-1"]) as proof:
        pairs = campaigns.SHADOW_PAIRS
        campaign = await campaigns.begin(story, "third-model", 3, ["1", "all"], campaigns.SHADOW_GATES, shadow_pairs=pairs)
        event, seen = await campaigns.halted(story, proof, campaign, since)
        failed = campaigns.failed(seen, 1)
        want(set(failed) == GATES, "agreement and relative latency fail, and nothing else", campaigns.gates(seen))
        want(failed["agreement"].samples >= pairs, "on enough pairs", failed)
        story.digests[3] = seen.waves[0].executions[0].target_digest
        story.record.facts["alias_to_halted_s"] = seconds_between(_alias_moved(story), event)
        proof.figures.update(campaign=campaign, alias_to_halted_s=story.record.facts["alias_to_halted_s"], **campaigns.gates(seen, 1))
    device = seen.waves[0].executions[0].device
    async with story.proving("h", "v3 answered no live frame", ENDED_S, ["control", "ingest"]) as proof:
        await campaigns.ended(story, proof, campaign, since, state="ROLLED_BACK")
        lake = await answers(story, story.digests[3])
        rows = {name: lake[device]["rows"] for name, device in story.devices.items()}
        want(not any(rows.values()), "no row of bronze is by v3", rows)
        proof.source = "lake"
        proof.figures.update({f"{name} rows by v3": count for name, count in rows.items()})
    return device


def seconds_between(earlier: EventView, later: EventView) -> float:
    return round((datetime.fromisoformat(later.utc) - datetime.fromisoformat(earlier.utc)).total_seconds(), 2)


def _alias_moved(story: Story) -> EventView:
    moves = [event for event in story.feed.events if event.event == "alias_moved" and event.subject.endswith("/3")]
    return moves[0]


async def answers(story: Story, digest: str) -> dict[str, Any]:
    """Per device what the lake says that `digest` answered, once it has rows that every device took from now on."""
    now_us = round(story.clock.mono() * 1e6)

    async def read() -> dict[str, Any]:
        argv = ("-m", "deploy.local.lake", "answers", str(story.site.lake), "--bundle", digest)
        found: dict[str, Any] = json.loads((await story.act("operator", story.site.bin("python"), *argv)).stdout)
        return found

    seen: dict[str, Any] = await story.until(read, lambda seen: min(device["newest_us"] for device in seen.values()) > now_us, pace_s=0.5)
    return seen
