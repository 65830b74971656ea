"""The rim: reads a running site as any of its users could.

Event log and campaigns by the operators' API with the operator's token; the lake by `python -m deploy.local.lake rates` as the operator;
what was killed from `logs/`: the supervisor's record and the agents' own logs. Nothing comes from the memory of the story.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomllib

from contracts.errors import error
from contracts.operator import CampaignView, EventView
from deploy.local.operators_api import OperatorsApi
from deploy.local.picture import faults
from deploy.local.picture.assembly import Read, facts
from deploy.local.picture.facts import seconds
from deploy.local.picture.faults import Line
from deploy.local.picture.page import page
from deploy.local.ports import Ports
from deploy.local.processes import command, environment
from deploy.local.site import AGENTS, CLOUD, LocalSite
from deploy.local.supervisor import RECORD

PAGE = 500  # events in one answer
BINS = 900  # about as many as the time line has pixels


def standing(root: Path) -> LocalSite:
    """A site that was made before. Its people have ids of their own where root made it, whoever draws it now."""
    site = LocalSite(root, Ports(), as_root=True)
    folder, owner = site.person("operator"), site.owner("operator")
    apart = owner is not None and folder.exists() and folder.stat().st_uid == owner.uid
    return replace(site, as_root=apart)


async def drawn(site: LocalSite, last_s: float | None = None) -> str:
    """The page of `site` as it is now. Raises API_UNREACHABLE when its control plane is not running."""
    api = OperatorsApi(_operators_port(site), _token(site))
    events = await _events(api)
    read = Read(
        events=events,
        campaigns=[CampaignView(**view) for view in await api.get("/v1/campaigns")],
        rates=await _rates(site, bin_s(events)),
        record=_lines(site.root / "logs" / RECORD),
        logs={name: _lines(site.root / "logs" / f"{name}.log") for name in AGENTS},
        cloud=tuple(CLOUD),
    )
    return page(facts(read, last_s))


def _operators_port(site: LocalSite) -> int:
    return int(tomllib.loads(_text(site.config("control")))["operators_port"])


def _token(site: LocalSite) -> str:
    return _text(site.token("operator")).strip()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as unreadable:
        raise error("CONFIG_MISSING", str(path), f"is this the work folder of a site? {unreadable.strerror}") from unreadable


async def _events(api: OperatorsApi) -> Sequence[EventView]:
    events: list[EventView] = []
    while fresh := await api.get(f"/v1/events?after={events[-1].seq if events else 0}&limit={PAGE}"):
        events += [EventView(**event) for event in fresh]
    return events


def bin_s(events: Sequence[EventView]) -> int:
    """Whole seconds, one where the story is short."""
    span_s = seconds(events[-1].utc) - seconds(events[0].utc) if events else 0.0
    return 1 + int(span_s) // BINS


async def _rates(site: LocalSite, bin_s: int) -> dict[str, Any]:
    argv = (site.bin("python"), "-m", "deploy.local.lake", "rates", str(site.lake), "--bin-s", str(bin_s))
    done = await command(argv, site.owner("operator"), environment(site.person("operator"), "operator"))
    if done.returncode != 0:
        raise error("SETUP_STEP_FAILED", "the lake is read", done.stderr[-1500:])
    rates: dict[str, Any] = json.loads(done.stdout)
    return rates


def _lines(log: Path) -> list[Line]:
    return faults.lines(log.read_text(errors="replace")) if log.exists() else []
