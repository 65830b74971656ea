"""Benchmarks by name: the figures of the loop, with those that a run of the demo left behind, and what the gates' verdicts are worth.

Goals are printed, never enforced: a figure of a shared machine is no reason to fail. Where possible a figure is a ratio against a floor
measured in the same run. Each benchmark module has `figures() -> list of {"name", "value", "unit", "goal", "holds", "against"}`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Figure = dict[str, Any]
MODULES = {
    "loop": ("backlog", "inference_floor", "polls", "decisions"),
    "inference": ("inference_floor", "two_clients", "front", "life"),
    "gates": ("gates",),
}
FIELDS = ("name", "value", "unit", "goal", "holds", "against")
AGENT_RSS_GOAL_MB = 60.0
STORY_GOAL_S = 300.0


def figure(name: str, value: float, unit: str, goal: str = "", holds: bool | None = None, against: str = "") -> Figure:
    """One line. `goal` in words; `holds` None where there is none; `against`: the floor that a ratio was taken from."""
    return {"name": name, "value": value, "unit": unit, "goal": goal, "holds": holds, "against": against}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", choices=sorted(MODULES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the list of figures")
    parser.add_argument("--demo", type=Path, metavar="FILE", help="the --json of a run of the demo, for its figures")
    parser.add_argument(
        "--peers", action="store_true", help="with `inference`: only against other model servers, which are installed for it"
    )
    options = parser.parse_args(arguments)
    if options.peers and options.name != "inference":
        parser.error("--peers goes with inference")
    names = ("against_peers",) if options.peers else MODULES[options.name]
    figures = [line for name in names for line in measured(name, _module(name))]
    if options.demo:
        figures += of_demo(json.loads(options.demo.read_text()))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    show(options.name, figures)
    return 0


def _module(name: str) -> Callable[[], list[Figure]]:
    module = importlib.import_module(f"tests.benchmarks.{name}")
    found: Callable[[], list[Figure]] = module.figures
    return found


def measured(name: str, measure: Callable[[], list[Figure]]) -> list[Figure]:
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    return [{field: line.get(field) for field in FIELDS} for line in measure()]


def of_demo(record: dict[str, Any]) -> list[Figure]:
    """Wall times and memory from the record of a demo."""
    timings = record["timings_s"]
    story_s = timings["all"] - timings.get("setup", 0)
    lines = [
        figure("demo, set-up", round(timings.get("setup", 0), 1), "s"),
        figure("demo, story", round(story_s, 1), "s", f"<= {STORY_GOAL_S:g}", story_s <= STORY_GOAL_S),
    ]
    for program in record["programs"]:
        rss_mb = program["rss_kb"] * 1024 / 1e6
        core = program["name"].startswith("agent-") and program["role"] == "skerry-agent"
        name = f"resident set, {program['name']} {program['role']}"
        goal = f"<= {AGENT_RSS_GOAL_MB:g}" if core else ""
        lines.append(figure(name, round(rss_mb, 1), "MB", goal, rss_mb <= AGENT_RSS_GOAL_MB if core else None))
    return lines


def show(title: str, figures: list[Figure]) -> None:
    table = Table(title=title)
    for name in FIELDS:
        table.add_column(name, justify="right" if name == "value" else "left")
    for line in figures:
        holds = {True: "yes", False: "NO", None: ""}[line["holds"]]
        table.add_row(*(holds if name == "holds" else str("" if line[name] is None else line[name]) for name in FIELDS))
    Console(highlight=False).print(table)
