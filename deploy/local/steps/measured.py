"""g: what the running programs hold open is what is listed, and what they weigh."""

from __future__ import annotations

import contextlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from deploy.local import proc
from deploy.local.borders import Allowed, strays
from deploy.local.broker import DEVICES_ACL, SERVICES_ACL
from deploy.local.site import AGENTS, PROGRAMS, LocalSite
from deploy.local.story import Story, want

LOOK_S, STEADY_S, MEMORY_S = 30, 60, 120
AGENT_LIMIT_KB = 60 * 1024


async def run(story: Story) -> None:
    await _borders(story)
    await _memory(story)
    async with story.proving("g", "restarted: what was killed, and nothing else", LOOK_S, list(PROGRAMS)) as proof:
        want(story.supervisor.restarts() == planned_restarts(story), "restart counts are the planned ones", story.supervisor.restarts())
        proof.figures.update({name: count for name, count in story.supervisor.restarts().items() if count})


async def _borders(story: Story) -> None:
    async with story.proving("g", "only listed sockets and files between programs", LOOK_S) as proof:
        looked = [(name, process) for name, process in _processes(story)]
        found = [f"{name} {process.role}: {stray}" for name, process in looked for stray in _strays(story, name, process.pid)]
        want(not found, "nothing beside the list", found)
        uids = {name: proc.uid(pid) for name, pid in story.supervisor.pids().items()}
        want(len(set(uids.values())) == (len(uids) if story.site.as_root else 1), "as many uids as programs", uids)
        proof.figures.update(processes=len(looked), uids=len(set(uids.values())))


def _processes(story: Story) -> Iterator[tuple[str, proc.Process]]:
    for name, pid in story.supervisor.pids().items():
        for process in proc.tree(pid):
            yield name, process


def _strays(story: Story, name: str, pid: int) -> list[str]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a child that has just ended holds nothing
        held = proc.open_things(pid)
        allowed = allowed_of(story.site, name, story.supervisor.log_path(name))
        return strays(allowed, held.files, held.tcp_listens, held.tcp_peers, held.unix_serves)
    return []


def allowed_of(site: LocalSite, name: str, log: Path) -> Allowed:
    """The list: own folders, the shared ones, ports and sockets of one program."""
    ports, keys = site.ports, site.keys
    own = [
        site.state(name),
        site.run(name),
        site.config(name),
        log,
        site.opt,
        Path(sysconfig.get_path("purelib")).resolve(),
        keys / "public",
    ]
    blobs, image = site.state("control") / "blobs", keys / "signer/image"
    shared = {
        "control": [keys / "control", image],
        "signer": [keys / "signer", blobs],
        "build": [keys / "build"],
        "ingest": [keys / "ingest", site.lake],
        "broker": [keys / "broker", site.etc / "mosquitto.conf", site.etc / DEVICES_ACL, site.etc / SERVICES_ACL],
        **{agent: [site.frames(agent)] for agent in AGENTS},
    }
    listens = {"control": {ports.operators, ports.devices, ports.enrolment}, "broker": {ports.mqtt, ports.mqtt_services}}
    connects = {"control": {ports.mqtt_services}, "build": {ports.devices}, "ingest": {ports.devices, ports.mqtt_services}}
    serves = [site.run(name), log.parents[1] / "notify"] if name in (*AGENTS, "signer") else []
    return Allowed(
        folders=tuple(str(path) for path in (*own, *shared[name])),
        listens=frozenset(listens.get(name, set())),
        connects=frozenset(connects.get(name, {ports.devices, ports.mqtt} if name in AGENTS else set())),
        unix=tuple(str(path) for path in serves),
    )


async def _memory(story: Story) -> None:
    """Once all agents have been in the story for a minute (the one that was killed has run for less)."""
    async with story.proving("g", "memory after a minute", MEMORY_S, ["agent-1"]) as proof:
        ready = [event for event in story.supervisor.events if event.what == "ready" and event.name in AGENTS]
        started_s = max(next(event.mono_s for event in ready if event.name == name) for name in AGENTS)
        await story.until_mono(started_s + STEADY_S)
        for name, process in _processes(story):
            size = proc.memory(process.pid)
            story.record.programs.append(
                {
                    "name": name,
                    "role": process.role if process.pid != story.supervisor.pid(name) else PROGRAMS[name],
                    "uid": proc.uid(process.pid),
                    "pid": process.pid,
                    "rss_kb": size.rss_kb,
                    "pss_kb": size.pss_kb,
                    "restarts": story.supervisor.restarts()[name] if process.pid == story.supervisor.pid(name) else "",
                }
            )
        cores = [program["rss_kb"] for program in story.record.programs if program["role"] == "skerry-agent"]
        proof.figures.update(agent_rss_mb=[round(kb / 1024, 1) for kb in cores], goal_mb=AGENT_LIMIT_KB // 1024)


def planned_restarts(story: Story) -> dict[str, int]:
    """One for each time that the story itself has killed a program."""
    killed = [event.name for event in story.supervisor.events if event.what == "kill" and event.detail == "SIGKILL"]
    return {name: killed.count(name) for name in PROGRAMS}
