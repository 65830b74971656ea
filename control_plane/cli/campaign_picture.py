"""One campaign as a picture: the waves in order, each with its gates (value against limit) and its devices."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from control_plane.cli.tables import digest, grid, state

_BAR = 24  # characters
_DONE, _BAD = ("CONFIRMED",), ("FAILED", "REJECTED", "REVERTED", "TIMED_OUT", "ROLLING_BACK")
_WAITING = ("QUEUED", "CANCELED", "SUPERSEDED")
# How a value is held against the limit: GateView has both, the metric says which side is good (contracts/operator.py, Gate).
_LIMITS = {
    "install_success": ">= {:.0%}",
    "latency_p95_us": "<= {:,.0f} us",
    "latency_p95_vs_incumbent": "<= {:.2f} x",
    "agreement": "expected - {:.2f}",
    "not_finite": "<= {:.2%}",
    "refused_share": "<= {:.2%}",
}
_VALUES = {
    "install_success": "{:.0%}",
    "latency_p95_us": "{:,.0f} us",
    "latency_p95_vs_incumbent": "{:.2f} x",
    "agreement": "{:.3f}",
    "not_finite": "{:.2%}",
    "refused_share": "{:.2%}",
}


def campaign(view: dict[str, Any]) -> RenderableType:
    """`view` is a CampaignView's JSON."""
    head = Text.assemble(
        "campaign ", (view["id"], "bold"), "  ", state(view["state"]), f"  release {view['release']}  revision {view['revision']}"
    )
    parts: list[RenderableType] = [head]
    if view["waits_for"]:
        until = f", until {view['waits_until_utc']}" if view["waits_until_utc"] else ""
        parts.append(Text(f"waits for {view['waits_for']}{until}", style="yellow"))
    for wave in view["waves"]:
        parts += ["", _wave_line(wave), Padding(Group(_gates(wave["gates"]), _executions(wave["executions"])), (0, 0, 0, 2))]
    return Group(*parts)


def _wave_line(wave: dict[str, Any]) -> Text:
    states = Counter(execution["state"] for execution in wave["executions"])
    counts = ", ".join(f"{count} {name}" for name, count in states.most_common()) or "no devices yet"
    return Text.assemble((f"wave {wave['number']}  ", "bold"), state(wave["state"]), "  ", _bar(states), f"  {counts}")


def _bar(states: Counter[str]) -> Text:
    """Each device a share of the bar: done, under way, failed, waiting."""
    total = sum(states.values())
    if not total:
        return Text("." * _BAR, style="dim")
    done, bad, waiting = (sum(states[name] for name in names) for names in (_DONE, _BAD, _WAITING))
    widths = [round(_BAR * count / total) for count in (done, total - done - bad - waiting, bad)]
    text = Text()
    for width, (mark, style) in zip(widths, (("#", "green"), ("=", "yellow"), ("x", "red")), strict=True):
        text.append(mark * width, style=style)
    return text.append("." * (_BAR - len(text)), style="dim")


def _gates(gates: list[dict[str, Any]]) -> RenderableType:
    if not gates:
        return Text("no gates", style="dim")
    table = grid("gate", "value", "bounds", "limit", "samples", "verdict", "reason")
    for gate in gates:
        shown = (_value(gate, "value"), _bounds(gate), _limit(gate), str(gate["samples"]))
        table.add_row(gate["metric"], *shown, state(gate["verdict"]), gate["reason"])
    return table


def _value(gate: dict[str, Any], name: str) -> str:
    return "-" if gate.get(name) is None else _VALUES[gate["metric"]].format(gate[name])


def _bounds(gate: dict[str, Any]) -> str:
    return "-" if gate.get("low") is None else f"{_value(gate, 'low')} to {_value(gate, 'high')}"


def _limit(gate: dict[str, Any]) -> str:
    """Agreement passes and fails at two places: a margin below what is expected, and below what is expected."""
    if gate["metric"] == "agreement" and gate.get("passes_at") is not None:
        return f">= {_value(gate, 'passes_at')}, fails < {_value(gate, 'fails_at')}"
    return _LIMITS[gate["metric"]].format(gate["limit"])


def _executions(executions: list[dict[str, Any]]) -> RenderableType:
    if not executions:
        return Text("")
    table = grid("device", "state", "kind", "from", "to", "code", "detail")
    for found in executions:
        table.add_row(
            found["device"], state(found["state"]), found["kind"], digest(found["previous_digest"]), digest(found["target_digest"]),
            found["code"], found["detail"],
        )  # fmt: skip
    return table
