"""`python -m edge_agent.inference.oip`: started by the agent."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop

from edge_agent.inference import client
from edge_agent.inference.oip.agent_stream import AgentStream
from edge_agent.inference.oip.front import Front, Limits
from edge_agent.inference.oip.models import Models
from edge_agent.inference.oip.ports import SeatClient
from edge_agent.inference.oip.regions import Regions
from edge_agent.inference.oip.server import Settings, make_sockets_for_the_group, serving
from edge_agent.inference.oip.shadow import Shadow
from edge_agent.inference.oip.trial import Shares, Trial
from edge_agent.inference.tether import tie_to_parent
from program import log
from program.memory import keep_freed

ARENA_SOCKET = "arena.sock"
ROOM_BYTES, LARGEST_AT_ONCE = 512 * 1024**2, 8  # what threads and libraries reserve, touched or not; and so many of the largest requests


class AttachSocket:
    """Implements `ports.Arenas`."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def models(self) -> Sequence[Mapping[str, Any]]:
        return client.models(self._path)

    def attach(self, digest: str) -> SeatClient:
        return client.Client.attach(self._path, digest)


async def serve(settings: Settings, stream: socket.socket) -> None:
    """Until SIGTERM, or until the agent is gone."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    agent = AgentStream(stream)
    arenas, regions = AttachSocket(Path(settings.run_dir) / ARENA_SOCKET), Regions(settings.shared_memory_uids)
    loop = asyncio.get_running_loop()
    shadow = Shadow(arenas.attach, lambda copy, outcome: loop.call_soon_threadsafe(trial.compared, copy, outcome))
    models = Models(arenas, settings.line_limit, spare=shadow.hand_over)
    trial = Trial(models, Shares(settings.shadow_share, settings.canary_share), shadow)
    async with serving(Front(models, agent, regions, settings.limits, trial), settings) as ports:
        shadowing = asyncio.ensure_future(asyncio.to_thread(shadow.run))
        tasks = [asyncio.ensure_future(agent.run(*ports, trial.windows)), asyncio.ensure_future(stop.wait())]
        await asyncio.wait([*tasks, shadowing], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        shadow.close()
        await shadowing
    models.close()
    regions.close()


def _limit_memory(limits: Limits) -> None:
    """Bodies that many callers send at once must not push out the workers. What goes beyond fails here; at worst the front starts anew."""
    limit_bytes = ROOM_BYTES + LARGEST_AT_ONCE * limits.max_request_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def main() -> int:
    parser = argparse.ArgumentParser(prog="skerry-oip", description="the Open Inference Protocol on the arena; a child of skerry-agent")
    parser.add_argument("--socket-fd", type=int, required=True, help="the stream to the agent")
    parser.add_argument("--parent-pid", type=int, required=True, help="die with this process")
    parser.add_argument("--settings", required=True, help="JSON, from [oip] of agent.toml")
    options = parser.parse_args()
    tie_to_parent(options.parent_pid)
    keep_freed()
    log.configure("skerry-oip")
    make_sockets_for_the_group()
    settings = Settings.of(json.loads(options.settings))
    _limit_memory(settings.limits)
    with socket.socket(fileno=options.socket_fd) as stream:
        uvloop.run(serve(settings, stream))
    return 0


if __name__ == "__main__":
    sys.exit(main())
