"""docs/reference/update-states.md, drawn from the table: `python -m edge_agent.core.diagram` prints it."""

from __future__ import annotations

from contracts.states import TERMINAL, State
from edge_agent.core.update import MAX_ATTEMPTS, TRANSITIONS, WORK, On

_QUIET = (On.START, On.KEEP, On.UNKNOWN)


def markdown() -> str:
    return "\n".join(["# Update states of a device", "", _INTRODUCTION, "", "```mermaid", *_mermaid(), "```", "", *_table(), ""])


_INTRODUCTION = """Made from the table in `edge_agent/core/update.py` by `python -m edge_agent.core.diagram`; a test holds it current.
The record is durable before each piece of work, and every piece of work may run twice. Events that change nothing are left out."""


def _edges() -> dict[tuple[State, State], list[On]]:
    edges: dict[tuple[State, State], list[On]] = {}
    for (state, on), to in TRANSITIONS.items():
        if on not in _QUIET and to is not state:
            edges.setdefault((state, to), []).append(on)
    return edges


def _mermaid() -> list[str]:
    lines = ["stateDiagram-v2", "    [*] --> IDLE"]
    for (state, to), events in _edges().items():
        if state not in TERMINAL:
            lines.append(f"    {state.value} --> {to.value}: {', '.join(on.value for on in events)}")
    return lines + [f"    {state.value} --> [*]" for state in State if state in TERMINAL]


def _table() -> list[str]:
    lines = ["| state | work | attempts | event: next state |", "|---|---|---|---|"]
    for state, work in WORK.items():
        moves = "; ".join(f"{', '.join(on.value for on in events)}: {to.value}" for (at, to), events in _edges().items() if at is state)
        lines.append(f"| {state.value} | {work.value} | {MAX_ATTEMPTS.get(state, '')} | {moves} |")
    return lines


if __name__ == "__main__":
    print(markdown(), end="")
