"""PURE: facts -> one HTML page that needs nothing else: no script, no foreign host, no font but the reader's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import groupby
from xml.etree import ElementTree

from deploy.local.picture import gates, time_line
from deploy.local.picture.elements import Element, element, offset
from deploy.local.picture.facts import Facts, duration
from deploy.local.picture.style import STYLE
from deploy.local.picture.waves import outcome

POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # the browser holds the page to its word
LEGEND = (
    "Above, campaigns open wave after wave; below, each device answers all the while, coloured by the model version it runs. "
    "Grey: a part of the cloud was away."
)


def page(facts: Facts) -> str:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"Skerry: {headline(facts)}"),
        element("style", STYLE),
    )
    body = element(
        "body",
        element("h1", headline(facts)),
        element("p", LEGEND),
        element("div", time_line.drawn(facts), class_="scroll"),
        *_gates(facts),
        *_list(facts),
        element("p", _source(facts), class_="none"),
    )
    return "<!doctype html>\n" + ElementTree.tostring(element("html", head, body, lang="en"), encoding="unicode", method="html") + "\n"


def headline(facts: Facts) -> str:
    """What happened, counted: `3 devices, 5 min 12 s: v1, v2 rolled out, v3 stopped twice; 6 kills, 14 refusals`"""
    ends = Counter((time_line.version_of(one, facts), _END.get(one.state, "under way")) for one in facts.campaigns)
    told = [(version, end + _TIMES.get(times, f" {times} times")) for (version, end), times in ends.items()]
    joined = [f"{', '.join(version for version, _ in those)} {end}" for end, those in groupby(told, key=lambda pair: pair[1])]
    kinds: Counter[str] = Counter([mark.kind for mark in facts.marks] + ["killed"] * sum(one.killed for one in facts.away))
    kinds["away"] = len(facts.away) - sum(one.killed for one in facts.away)
    counted = [_counted(kinds[kind], word) for kind, word in _KINDS.items() if kinds[kind]]
    sides = [", ".join(joined), ", ".join(counted)]
    return f"{_counted(len(facts.devices), 'device')}, {duration(facts.ended_s - facts.began_s)}: " + "; ".join(filter(None, sides))


_END = {"SUCCEEDED": "rolled out", "ROLLED_BACK": "stopped", "PAUSED": "stopped", "ABORTED": "aborted"}
_TIMES = {1: "", 2: " twice"}
_KINDS = {"killed": "kill", "away": "absence", "refused": "refusal", "fault": "fault"}


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _gates(facts: Facts) -> Iterator[Element]:
    """A row per campaign: its name where the time line's lanes have theirs, then its strips."""
    judged = [one for one in facts.campaigns if one.gates]
    if judged:
        yield element("h2", "Gates: what the devices reported, against the limit")
    for one in judged:
        name = element("h3", f"{time_line.version_of(one, facts)} {one.name}", element("small", outcome(one).partition(":")[0]))
        yield element("section", name, element("div", *gates.panel(one)))


def _list(facts: Facts) -> Iterator[Element]:
    """The time line as a table, for who cannot see it or wants to search it."""
    rows = [
        element("tr", element("td", offset(at_s - facts.began_s)), element("td", where), element("td", what))
        for at_s, where, what in sorted(_happenings(facts))
    ]
    if rows:
        head = element("thead", element("tr", *(element("th", name) for name in ("time", "where", "what"))))
        table = element("table", element("caption", "The same in words, in order of time"), head, element("tbody", *rows))
        yield element("details", element("summary", f"The same as a list of {len(rows)} happenings"), table)


def _happenings(facts: Facts) -> Iterator[tuple[float, str, str]]:
    names = {device.id: device.name for device in facts.devices}
    for campaign in facts.campaigns:
        name = f"{time_line.version_of(campaign, facts)} {campaign.name}"
        yield from ((stretch.from_s, name, f"wave {stretch.wave} {stretch.state}") for stretch in campaign.stretches)
        if campaign.rolled_back:
            yield campaign.rolled_back[0], name, "rolling back"
    for device in facts.devices:
        for phase in device.phases:
            version = facts.versions.get(phase.digest, "unknown")
            yield phase.from_s, device.name, f"{phase.kind} of {version} {phase.digest[:12]}: {phase.state}"
    for mark in facts.marks:
        yield mark.at_s, names.get(mark.device, mark.device) or "cloud", mark.in_full
    for away in facts.away:
        yield away.from_s, "cloud", away.words


def _source(facts: Facts) -> str:
    began = datetime.fromtimestamp(facts.began_s, timezone.utc).isoformat(sep=" ", timespec="seconds")
    rows = facts.rows
    return (
        f"0:00 is {began}. Drawn from the operators' event log, the lake's rows ({sum(count for _, count in rows.committed):,} in bronze, "
        f"{rows.quarantined:,} in quarantine, {rows.shed:,} shed and counted), and the logs that the supervisor keeps."
    )
