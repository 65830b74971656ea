"""h: every frame to incumbent and candidate; agreement and relative latency both fail, the campaign halts, nothing was answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from contracts.operator import EventView
from deploy.local.steps import campaigns, released
from deploy.local.story import Story, want

HALT_S, ENDED_S = 120, 90
GATES = {"agreement", "latency_p95_vs_incumbent"}


async def run(story: Story, version: int = 3, waves: Sequence[str] = ("1", "all")) -> str:
    """The id of the device that ran it in its shadow."""
    since, step, it = story.feed.last, released.STEP[version], f"v{version}"
    what = f"{it} in the shadow: both gates fail ({campaigns.COARSE}), the campaign halts"
    async with story.proving(step, what, HALT_S, ["control"]) as proof:
        pairs = campaigns.SHADOW_PAIRS
        campaign = await campaigns.begin(story, f"{it}-in-shadow", version, waves, campaigns.SHADOW_GATES, shadow_pairs=pairs)
        event, seen = await campaigns.halted(story, proof, campaign, since)
        failed = campaigns.failed(seen, 1)
        want(set(failed) == GATES, "agreement and relative latency fail, and nothing else", campaigns.gates(seen))
        want(failed["agreement"].samples >= pairs, "on enough pairs", failed)
        story.digests[version] = seen.waves[0].executions[0].target_digest
        story.record.facts["alias_to_halted_s"] = seconds_between(_alias_moved(story, version), event)
        proof.figures.update(campaign=campaign, alias_to_halted_s=story.record.facts["alias_to_halted_s"], **campaigns.gates(seen, 1))
    async with story.proving(step, f"{it} answered no live frame", ENDED_S, ["control", "ingest"]) as proof:
        await campaigns.ended(story, proof, campaign, since, state="ROLLED_BACK")
        lake = await answers(story, story.digests[version])
        rows = {name: lake[device]["rows"] for name, device in story.devices.items()}
        want(not any(rows.values()), f"no row of bronze is by {it}", rows)
        proof.source = "lake"
        proof.figures.update({f"{name} rows by {it}": count for name, count in rows.items()})
    return seen.waves[0].executions[0].device


def seconds_between(earlier: EventView, later: EventView) -> float:
    return round((datetime.fromisoformat(later.utc) - datetime.fromisoformat(earlier.utc)).total_seconds(), 2)


def _alias_moved(story: Story, version: int) -> EventView:
    """The first time; the roll back moves it away again."""
    return next(event for event in story.feed.events if event.event == "alias_moved" and event.subject.endswith(f"/{version}"))


async def answers(story: Story, digest: str) -> dict[str, Any]:
    """Per device what the lake says that `digest` answered, once it has rows that every device took from now on."""
    now_us = round(story.clock.mono() * 1e6)

    async def read() -> dict[str, Any]:
        argv = ("-m", "deploy.local.lake", "answers", str(story.site.lake), "--bundle", digest)
        found: dict[str, Any] = json.loads((await story.act("operator", story.site.bin("python"), *argv)).stdout)
        return found

    seen: dict[str, Any] = await story.until(read, lambda seen: min(device["newest_us"] for device in seen.values()) > now_us, pace_s=0.5)
    return seen
