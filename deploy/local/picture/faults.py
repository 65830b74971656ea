"""PURE: the supervisor's record and the programs' logs -> what was killed or fell over, and when a program of the cloud was away."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from deploy.local.picture.facts import Away, Mark, seconds

Line = Mapping[str, Any]
WORDS = {"control": "control plane"}  # where a person says something else than the program's name
_DEATHS = {"worker_died": "worker", "pipeline_died": "pipeline"}  # as the agents' logs say it
_SIGKILL = -9


def lines(text: str) -> list[Line]:
    """The JSON objects of a log; what else stands in it (a traceback, a line cut by a crash) is passed over."""
    return [line for line in map(_parsed, text.splitlines()) if isinstance(line, dict)]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def kills(record: Iterable[Line], devices: Mapping[str, str]) -> Iterator[Mark]:
    """Of agents. `record`: lines of supervisor.jsonl. `devices`: program (agent-1) -> device id."""
    for line in record:
        if line["what"] == "kill" and line["name"] in devices:
            how = "killed" if line["detail"] == "SIGKILL" else f"killed: {line['detail']}"
            yield Mark(seconds(line["utc"]), "killed", f"{line['name']} {how}", devices[line["name"]])


def deaths(program: str, log: Iterable[Line], device: str) -> Iterator[Mark]:
    """Children of an agent that ended unasked, from its own log."""
    for line in log:
        if line.get("event") in _DEATHS and line.get("level") == "error":
            killed = line.get("returncode") == _SIGKILL
            what = f"{_DEATHS[line['event']]} of {program} {'killed' if killed else 'died'}"
            yield Mark(seconds(line["utc"]), "killed" if killed else "fault", what, device)


def away(record: Iterable[Line], cloud: Iterable[str], until_s: float) -> Iterator[Away]:
    """Of the cloud's programs: from the first word of trouble (frozen, killed, told to stop) to the next `ready`."""
    names = {name: WORDS.get(name, name) for name in cloud}
    begun: dict[str, Away] = {}
    for line in record:
        name, at_s = line["name"], seconds(line["utc"])
        if name in names and line["what"] in ("freeze", "kill", "stopping", "exit"):
            since = begun.get(name, Away(names[name], at_s, until_s))
            begun[name] = replace(since, killed=since.killed or line["what"] == "kill")
        elif line["what"] == "ready" and name in begun:
            yield replace(begun.pop(name), to_s=at_s)
    yield from begun.values()


def device_of(log: Iterable[Line]) -> str:
    """The id that an agent gives itself in its own log."""
    return next((str(line["device_id"]) for line in log if line.get("event") == "agent_ready" and "device_id" in line), "")


def merged(marks: Iterable[Mark], within_s: float = 2.0) -> tuple[Mark, ...]:
    """In order of time; what repeats itself within `within_s` is one mark that counts."""
    found: list[Mark] = []
    latest: dict[tuple[str, str], int] = {}
    ended_s: dict[tuple[str, str], float] = {}
    for mark in sorted(marks, key=lambda mark: mark.at_s):
        what = (mark.text, mark.device)
        if what in latest and mark.at_s - ended_s[what] <= within_s:
            first = found[latest[what]]
            found[latest[what]] = replace(first, times=first.times + mark.times)
        else:
            latest[what] = len(found)
            found.append(mark)
        ended_s[what] = mark.at_s
    return tuple(found)
