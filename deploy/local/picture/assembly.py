"""PURE: all that was read of a site -> the facts that are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contracts.errors import CODES
from contracts.operator import CampaignView, EventView
from deploy.local.picture import campaigns, faults
from deploy.local.picture.facts import Answers, Device, Facts, Mark, Phase, Rows, seconds
from deploy.local.picture.faults import Line

MARGIN_S = 2.0  # so that nothing lies on the edge


@dataclass(frozen=True)
class Read:
    """`rates` is what `python -m deploy.local.lake rates` prints; `record` the supervisor's; `logs`: agent's name -> its log."""

    events: Sequence[EventView]
    campaigns: Sequence[CampaignView]
    rates: Mapping[str, Any]
    record: Sequence[Line] = ()
    logs: Mapping[str, Sequence[Line]] = field(default_factory=dict)
    cloud: tuple[str, ...] = ()  # the supervisor's names of what is not a device


def facts(read: Read, last_s: float | None = None) -> Facts:
    """Everything from the first campaign or answer on, or only the `last_s` seconds of it."""
    ended_s = _ended_s(read)
    began_s = max(_began_s(read, ended_s), ended_s - last_s if last_s else 0.0)
    names = {faults.device_of(log): name for name, log in read.logs.items()}
    bundles, releases = campaigns.versions(read.events)
    return Facts(
        began_s=began_s,
        ended_s=ended_s,
        bin_s=float(read.rates["bin_s"]),
        versions=bundles,
        releases=releases,
        devices=_devices(read, names, began_s, ended_s),
        campaigns=tuple(one for one in campaigns.campaigns(read.events, read.campaigns, ended_s) if _seen(one.stretches, began_s)),
        marks=tuple(mark for mark in _marks(read, names) if mark.at_s >= began_s),
        away=tuple(one for one in faults.away(read.record, read.cloud, ended_s) if one.from_s >= began_s),
        rows=_rows(read.rates, began_s),
    )


def _began_s(read: Read, ended_s: float) -> float:
    made = [seconds(event.utc) for event in read.events if event.event == "campaign_created"]
    return min([*made, *(float(row[0]) for row in read.rates["answered"])], default=ended_s) - MARGIN_S


def _ended_s(read: Read) -> float:
    rows = [float(row[0]) + read.rates["bin_s"] for name in ("answered", "committed") for row in read.rates[name]]
    moved = [seconds(event.utc) for event in read.events if event.event.endswith("_moved")]
    return max([*rows, *moved, *(mark.at_s for mark in _marks(read, {}))], default=0.0) + MARGIN_S


def _seen(stretches: Iterable[Any], began_s: float) -> bool:
    return any(stretch.to_s >= began_s for stretch in stretches)


def _devices(read: Read, names: Mapping[str, str], began_s: float, ended_s: float) -> tuple[Device, ...]:
    answers: dict[str, list[Answers]] = {}
    for second, device, digest, count in read.rates["answered"]:
        if second >= began_s:
            answers.setdefault(device, []).append(Answers(float(second), digest, count))
    phases = {device: _kept(of, began_s) for device, of in campaigns.phases(read.events, ended_s).items()}
    known = sorted({*answers, *phases, *filter(None, names)}, key=lambda device: (names.get(device, "~"), device))
    return tuple(Device(one, names.get(one, one[:9]), tuple(answers.get(one, ())), phases.get(one, ())) for one in known)


def _kept(phases: Iterable[Phase], began_s: float) -> tuple[Phase, ...]:
    return tuple(replace(phase, from_s=max(phase.from_s, began_s)) for phase in phases if phase.to_s > began_s)


def _marks(read: Read, names: Mapping[str, str]) -> tuple[Mark, ...]:
    devices = {name: device for device, name in names.items()}
    found = [*campaigns.refusals(read.events), *faults.kills(read.record, devices)]
    for name, log in read.logs.items():
        found += faults.deaths(name, log, devices.get(name, ""))
    found += [
        Mark(float(second), "refused", code, device, rows, CODES[code].meaning if code in CODES else "")
        for second, device, code, rows in read.rates["quarantine"]
    ]
    found += [Mark(float(second), "fault", f"{rows} rows shed: {why}", device) for second, device, why, rows in read.rates["gaps"]]
    return faults.merged(found)


def _rows(rates: Mapping[str, Any], began_s: float) -> Rows:
    """What was before the beginning counts into the first bin: a total stays a total."""
    accepted, committed = ([(max(float(second), began_s), rows) for second, rows in rates[name]] for name in ("accepted", "committed"))
    return Rows(tuple(accepted), tuple(committed), sum(row[-1] for row in rates["quarantine"]), sum(row[-1] for row in rates["gaps"]))
