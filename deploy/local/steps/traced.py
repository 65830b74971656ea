"""d: a prediction row, chosen by a seeded random from Delta, back to bundle, model version, run and data; a wrong digest fails."""

from __future__ import annotations

import json
from typing import Any

from deploy.local.processes import command
from deploy.local.story import Story, want

ROW_S, TRACE_S = 60, 30


async def run(story: Story) -> None:
    async with story.proving("d", "one row of v2, drawn from bronze", ROW_S, ["ingest"]) as proof:
        drawn = await story.until(lambda: _drawn(story), lambda drawn: drawn["of"] > 0)
        proof.source = "lake"
        proof.figures.update(of_rows=drawn["of"], stream=drawn["row"]["stream"], seq=drawn["row"]["seq"], idx=drawn["row"]["idx"])
    async with story.proving("d", "row -> bundle -> model version -> run -> data", TRACE_S, ["control"]) as proof:
        trace = await story.skerry("operator", "trace", drawn["row"]["bundle_digest"])
        want(trace["complete"] and all(hop["ok"] for hop in trace["hops"]), "every hop is found in its own store", trace)
        proof.figures.update({hop["hop"]: hop["id"] for hop in trace["hops"]}, data=trace["data"])
    async with story.proving("d", "a planted wrong digest fails", TRACE_S, ["control"]) as proof:
        proof.figures.update(await _planted(story, drawn["row"]["bundle_digest"]))


async def _drawn(story: Story) -> Any:
    """`python -m deploy.local.lake pick`, as any user of the lake."""
    argv = ("-m", "deploy.local.lake", "pick", str(story.site.lake), "--seed", str(story.seed), "--bundle", story.digests[2])
    return json.loads((await story.act("operator", story.site.bin("python"), *argv)).stdout)


async def _planted(story: Story, digest: str) -> dict[str, str]:
    wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    argv = (story.site.bin("skerry"), "trace", wrong, "--json")
    done = await command(argv, story.site.owner("operator"), story.environment_of("operator"))
    want(done.returncode != 0, "`skerry trace` of a wrong digest exits non-zero", done.stdout)
    want(done.stdout.startswith("{"), "it prints the trace all the same", done.stdout + done.stderr)
    trace = json.loads(done.stdout)
    want(not trace["complete"], "the trace is not complete", trace)
    return {"digest": wrong, "exit": str(done.returncode), "missing": ", ".join(hop["hop"] for hop in trace["hops"] if not hop["ok"])}
