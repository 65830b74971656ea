"""What an agent says of itself: `skerry-agent status`, `ledger`, and the hello of its reports."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from contracts.reports import Hello
from edge_agent import AGENT_VERSION
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.adapters.identity import Identity
from edge_agent.adapters.no_source import NoPipeline
from edge_agent.inference.host import WorkerHost
from edge_agent.inference.oip.link import OipLink
from edge_agent.loops.exchange import Exchange
from edge_agent.loops.poll import PollLoop
from edge_agent.loops.update import UpdateLoop
from edge_agent.pipeline.link import PipelineLink
from sync.uplink.outbox import Outbox
from sync.uplink.uplink import Uplink


@dataclass
class Sources:
    """Where the figures come from; read, never written."""

    identity: Identity
    profile: str
    db: AgentDb
    outbox: Outbox
    host: WorkerHost
    pipeline: PipelineLink | NoPipeline
    exchange: Exchange
    update: UpdateLoop
    poll: PollLoop
    uplink: Uplink
    oip: OipLink | None


def hello(sources: Sources) -> Hello:
    accepted = {stream: entry.accepted_rows for stream, entry in sources.outbox.ledger().items()}
    running = sources.update.record.live
    return Hello(agent_version=AGENT_VERSION, profile=sources.profile, running_digest=running, ledger=accepted)


def status(sources: Sources) -> dict[str, Any]:
    record, uplink, counters = sources.update.record, sources.uplink.figures(), sources.pipeline.counters()
    return {
        "device": sources.identity.device,
        "profile": sources.profile,
        "agent_version": AGENT_VERSION,
        "certificate_not_after": sources.identity.not_after.isoformat(),
        "state": record.state.value,
        "kind": record.kind,
        "execution": record.execution,
        "fence": record.fence,
        "code": record.code,
        "target_digest": record.target,
        "running_digest": record.live,
        "confirmed_digest": record.confirmed,
        "poll_trouble": sources.poll.trouble,
        "disk_trouble": "; ".join(part for part in (sources.db.trouble, sources.outbox.trouble) if part),
        "reports_waiting": sources.db.waiting(),
        "pids": {
            "agent": os.getpid(),
            "workers": sources.host.pids(),
            "pipeline": sources.pipeline.pid(),
            "oip": sources.oip.pid() if sources.oip else None,
        },
        "oip": sources.oip.ports if sources.oip else None,
        "outbox": {"streams": {stream: asdict(entry) for stream, entry in sources.outbox.ledger().items()}},
        "uplink": uplink,
        "connected": uplink["connected"],
        "pipeline": {**counters, "rows_pending": counters["pending"], "refusals": dict(sources.pipeline.refusals)},
        "arenas": {digest: {"cells_occupied": cells} for digest, cells in sources.host.cells().items()},
        "workers": sources.host.figures(),
        "worker_restarts": sources.exchange.deaths_seen,
    }


def ledger(sources: Sources) -> dict[str, Any]:
    counters = sources.pipeline.counters()
    return {
        "device": sources.identity.device,
        "streams": {stream: asdict(entry) for stream, entry in sources.outbox.ledger().items()},
        "frames": counters["frames"],
        "accepted_rows": counters["accepted_rows"],
        "refused": counters["refused"],
        "kept": counters["kept"],
        "window_rows_refused": counters["window_rows_refused"],
    }
