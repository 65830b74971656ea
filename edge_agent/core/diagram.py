"""docs/reference/update-states.md, drawn from the table: `python -m edge_agent.core.diagram` prints it."""

from __future__ import annotations

from contracts.states import TERMINAL, State
from edge_agent.core.update import ANY_TERMINAL, MAX_ATTEMPTS, MAX_STARTS, TRANSITIONS, WORK, On

_QUIET = (On.START, On.KEEP, On.UNKNOWN)


def markdown() -> str:
    return "\n".join(["# Update states of a device", "", _INTRODUCTION, "", "```mermaid", *_mermaid(), "```", "", *_table(), ""])


_INTRODUCTION = """Made from the table in `edge_agent/core/update.py` by `python -m edge_agent.core.diagram`; a test holds it current.
The record is durable before each piece of work, and every piece of work may run twice. Events that change nothing are left out.
Attempts are counted before the work begins. Starts that are cut off before the agent has tidied up count as a local revert in the end.
How each state is struck, and what follows: [power cuts](../explanation/power-cuts.md)."""


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
        lines.append(f"| {state.value} | {work.value} | {_bound(state)} | {moves} |")
    return lines


def _bound(state: State) -> str:
    return f"{MAX_STARTS} starts" if state in ANY_TERMINAL else str(MAX_ATTEMPTS.get(state, ""))


if __name__ == "__main__":
    print(markdown(), end="")
