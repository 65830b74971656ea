"""PURE: each gate as a strip: the value a dot with its bounds, the limit a line, the side where it passes tinted; and the same in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from contracts.operator import GateMetric, GateView
from deploy.local.picture.elements import Element, TimeScale, element, titled
from deploy.local.picture.facts import Campaign, JudgedGate

STRIP_WIDTH_PX, STRIP_HEIGHT_PX, TRACK_Y, TRACK_PX = 240.0, 30.0, 6.0, 8.0


@dataclass(frozen=True)
class Metric:
    """How a gate's value is read. `at_most`: it passes below its limit."""

    words: str
    at_most: bool
    shown: Callable[[float], str]


def _share(value: float) -> str:
    return f"{value * 100:.3g} %"


METRICS: dict[GateMetric, Metric] = {
    "install_success": Metric("installed", False, _share),
    "latency_p95_us": Metric("latency p95", True, lambda us: f"{us / 1000:.3g} ms"),
    "latency_p95_vs_incumbent": Metric("p95 vs incumbent", True, lambda ratio: f"{ratio:.3g}×"),
    "agreement": Metric("agreement", False, _share),
    "not_finite": Metric("not finite", True, _share),
    "refused_share": Metric("refused", True, _share),
}


def metric_of(gate: GateView) -> Metric:
    """A metric that this picture does not know yet is shown under its own name."""
    return METRICS.get(gate.metric) or Metric(gate.metric.replace("_", " "), True, lambda value: f"{value:.3g}")


def limit_of(gate: GateView) -> float:
    """What the value is held against, in the value's own unit: of agreement, the limit itself is a margin below what is expected."""
    held = gate.fails_at if gate.verdict == "failed" else gate.passes_at
    return gate.limit if held is None else held  # None: devices are counted


def in_words(one: JudgedGate) -> str:
    """`latency p95 27 ms over 20 ms`"""
    metric, value = metric_of(one.gate), one.gate.value
    if value is None:
        return f"{metric.words} {one.gate.verdict.replace('_', ' ')}"
    limit = limit_of(one.gate)
    side = ("over" if value > limit else "within") if metric.at_most else ("under" if value < limit else "at least")
    return f"{metric.words} {metric.shown(value)} {side} {metric.shown(limit)}"


def panel(seen: Campaign) -> Iterator[Element]:
    """The strips of the gates that have a value, then one line for those that do not apply."""
    strips = [_card(one) for one in seen.gates if one.gate.value is not None]
    if strips:
        yield element("div", *strips, class_="strips")
    for reason, ones in _without_value(seen).items():
        yield element("p", f"{', '.join(dict.fromkeys(metric_of(one.gate).words for one in ones))}: {reason}", class_="none")


def _without_value(seen: Campaign) -> dict[str, list[JudgedGate]]:
    found: dict[str, list[JudgedGate]] = {}
    for one in seen.gates:
        if one.gate.value is None:
            found.setdefault(f"{one.gate.verdict.replace('_', ' ')}, {one.gate.reason}", []).append(one)
    return found


def _card(one: JudgedGate) -> Element:
    gate, metric = one.gate, metric_of(one.gate)
    said = element("span", {"passed": "✓ passed", "failed": "✕ failed"}.get(gate.verdict, gate.verdict), class_=gate.verdict)
    head = element("figcaption", element("b", metric.words), f" wave {one.wave} ", said)
    return element("figure", head, strip(gate))


def strip(gate: GateView) -> Element:
    """From zero to a little beyond the largest of value and limits; the whisker is where the value is proven to lie."""
    metric, value, limit = metric_of(gate), gate.value or 0.0, limit_of(gate)
    good = limit if gate.passes_at is None else gate.passes_at
    scale = TimeScale(0.0, max(value, limit, good, 1e-9) * 1.12, 6.0, STRIP_WIDTH_PX - 6.0)
    parts = [
        element("rect", x=scale.left, y=TRACK_Y, width=scale.right - scale.left, height=TRACK_PX, rx=3, class_="track"),
        _good_side(good, metric.at_most, scale),
        element("line", x1=scale.x(limit), x2=scale.x(limit), y1=TRACK_Y - 5, y2=TRACK_Y + TRACK_PX + 4, class_="limit"),
        *_whisker(gate, scale),
        element("circle", cx=scale.x(value), cy=TRACK_Y + TRACK_PX / 2, r=5, class_=f"value {gate.verdict}"),
        element("text", f"{metric.shown(value)}, n {gate.samples}", x=scale.left, y=STRIP_HEIGHT_PX, class_="small"),
        element("text", f"{_says(metric.at_most)} {metric.shown(limit)}", x=scale.right, y=STRIP_HEIGHT_PX, class_="small end"),
    ]
    drawing = element("svg", *parts, viewBox=f"0 0 {STRIP_WIDTH_PX:g} {STRIP_HEIGHT_PX + 4:g}", role="img")
    return titled(drawing, f"{in_words(JudgedGate(0, gate))}, n {gate.samples}: {gate.verdict}. {gate.reason}".strip())


def _says(at_most: bool) -> str:
    return "limit ≤" if at_most else "limit ≥"


def _good_side(turn: float, at_most: bool, scale: TimeScale) -> Element:
    low, high = (0.0, turn) if at_most else (turn, scale.ended_s)
    return element("rect", x=scale.x(low), y=TRACK_Y, width=scale.width(low, high), height=TRACK_PX, rx=3, class_="good")


def _whisker(gate: GateView, scale: TimeScale) -> Iterator[Element]:
    """Bounds that hold over all looks; an end that is not bounded runs out of the strip."""
    if gate.low is not None or gate.high is not None:
        low, high = gate.low or 0.0, scale.ended_s if gate.high is None else gate.high
        y = TRACK_Y + TRACK_PX / 2
        yield element("line", x1=scale.x(low), x2=scale.x(high), y1=y, y2=y, class_=f"whisker {gate.verdict}")
