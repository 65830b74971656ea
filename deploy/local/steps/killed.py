"""e: worker, pipeline, agent, ingest and broker, each killed by SIGKILL while it is busy, and back. (Control plane: kill_control.py.)

Busy is shown, not assumed: what is in flight is read first and printed. Where "in flight" lasts only a moment (a worker's cell, a broker's
PUBACK) the process is stopped by SIGSTOP until something is, and then killed: it never gets to finish it.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from deploy.local.story import Story, want

KILL_S = 60
WORKER_BACK_S, AGENT_BACK_S = 2.0, 5.0
Status = dict[str, Any]


async def run(story: Story) -> None:
    await worker(story, "agent-1")
    await pipeline(story, "agent-1")
    await agent(story, "agent-2")
    await ingest(story)
    await broker(story, "agent-3")


async def worker(story: Story, name: str) -> None:
    async with story.proving("e", "worker killed with a cell occupied, and back", KILL_S, [name]) as proof, story.follow(name) as device:
        seen = await device.wait(lambda seen: _worker_pid(seen) is not None)
        digest, pid = seen["running_digest"], _worker_pid(seen)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        busy = await device.wait(lambda seen: seen["arenas"][digest]["cells_occupied"] > 0)
        killed_s = story.clock.mono()
        os.kill(pid, signal.SIGKILL)
        await device.wait(lambda seen: _worker_pid(seen) not in (None, pid))
        back_s = story.clock.mono() - killed_s
        proof.figures.update(cells_occupied=busy["arenas"][digest]["cells_occupied"], back_s=round(back_s, 2), limit_s=WORKER_BACK_S)
        want(back_s <= WORKER_BACK_S, "the worker is back in time", back_s)
        proof.source = "device"


def _worker_pid(seen: Status) -> int | None:
    """Pid of the worker that answers live frames, once it is ready."""
    worker = seen["workers"].get(seen["running_digest"])
    return worker["pid"] if worker and worker["state"] == "ready" else None


async def pipeline(story: Story, name: str) -> None:
    async with (
        story.proving("e", "pipeline killed with rows not yet accepted, and back", KILL_S, [name]) as proof,
        story.follow(name) as device,
    ):
        busy = await device.wait(lambda seen: seen["pids"]["pipeline"] and seen["pipeline"]["rows_pending"] > 0)
        pid, accepted = busy["pids"]["pipeline"], busy["pipeline"]["accepted_rows"]
        killed_s = story.clock.mono()
        os.kill(pid, signal.SIGKILL)
        await device.wait(lambda seen: seen["pids"]["pipeline"] not in (None, pid) and seen["pipeline"]["accepted_rows"] > accepted)
        proof.figures.update(rows_pending=busy["pipeline"]["rows_pending"], back_s=round(story.clock.mono() - killed_s, 2))
        proof.source = "device"


async def agent(story: Story, name: str) -> None:
    async with story.proving("e", "agent killed with rows accepted and not acked, and back", KILL_S, [name]) as proof:
        async with story.follow(name) as device:
            busy = await device.wait(lambda seen: _not_acked(seen) > 0)
            killed = story.supervisor.kill(name)
        ready = await story.supervisors_event(proof, lambda event: event.name == name and event.what == "ready", KILL_S, killed.no)
        back_s = ready.mono_s - killed.mono_s
        proof.figures.update(accepted_not_acked=_not_acked(busy), back_s=round(back_s, 2), limit_s=AGENT_BACK_S)
        want(back_s <= AGENT_BACK_S, "the agent is back in time", back_s)
        async with story.follow(name) as device:
            seen = await device.wait(lambda seen: _worker_pid(seen) is not None and _accepted(seen) > _accepted(busy))
        want(seen["running_digest"] == busy["running_digest"], "the same slot is active", seen["running_digest"])


def _accepted(seen: Status) -> int:
    return sum(stream["accepted_rows"] for stream in seen["outbox"]["streams"].values())


def _acked(seen: Status) -> int:
    return sum(stream["acked_rows"] for stream in seen["outbox"]["streams"].values())


def _not_acked(seen: Status) -> int:
    return _accepted(seen) - _acked(seen)


async def ingest(story: Story) -> None:
    """What it had received and not committed stands in the file that the dead process left behind."""
    async with story.proving("e", "ingest killed with rows received and not committed, and back", KILL_S, ["ingest"]) as proof:
        await story.until(lambda: _ingest_frozen(story), lambda seen: _not_committed(seen) > 0, pace_s=0.01)
        began_s = story.clock.mono()
        killed = story.supervisor.kill("ingest")
        left = await _ingest_status(story)
        want(left["pid"] == killed.pid and _not_committed(left) > 0, "it was busy when it died", left)
        ready = await story.supervisors_event(proof, lambda event: event.name == "ingest" and event.what == "ready", KILL_S, killed.no)
        story.cloud_down["ingest"] = (began_s, ready.mono_s)
        await story.until(lambda: _ingest_status(story), lambda seen: seen["pid"] != killed.pid and seen["committed_rows"] > 0)
        proof.figures.update(received_not_committed=_not_committed(left), back_s=round(ready.mono_s - began_s, 2))


async def _ingest_frozen(story: Story) -> Status:
    """Ingest's state, which lasts: where it shows rows in flight the process stands still, else it has gone on."""
    if not _not_committed(seen := await _ingest_status(story)):
        return seen
    story.supervisor.freeze("ingest")
    if not _not_committed(seen := await _ingest_status(story)):
        story.supervisor.thaw("ingest")
    return seen


def _not_committed(seen: Status) -> int:
    return int(seen["received_rows"] - seen["committed_rows"])


async def _ingest_status(story: Story) -> Status:
    path = story.site.run("ingest") / "ingest-status.json"
    return json.loads(path.read_text()) if path.exists() else {"pid": 0, "received_rows": 0, "committed_rows": 0}


async def broker(story: Story, name: str) -> None:
    async with (
        story.proving("e", "broker killed with batches sent and not PUBACKed, and back", KILL_S, ["broker"]) as proof,
        story.follow(name) as device,
    ):
        began_s = story.clock.mono()
        story.supervisor.freeze("broker")
        busy = await device.wait(lambda seen: _not_pubacked(seen) > 0)
        killed = story.supervisor.kill("broker")
        ready = await story.supervisors_event(proof, lambda event: event.name == "broker" and event.what == "ready", KILL_S, killed.no)
        story.cloud_down["broker"] = (began_s, ready.mono_s)
        connection = busy["uplink"]["connection_no"]
        await device.wait(lambda seen: seen["uplink"]["connection_no"] > connection and _acked(seen) >= _accepted(busy))
        proof.figures.update(sent_not_pubacked=_not_pubacked(busy), back_s=round(ready.mono_s - killed.mono_s, 2))


def _not_pubacked(seen: Status) -> int:
    return int(seen["uplink"]["sent_batches"] - seen["uplink"]["puback_batches"])
