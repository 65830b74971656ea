"""PURE: the lanes of the time line, one below the other on one scale of time, as one SVG element."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from deploy.local.picture import lanes, row_lanes, waves
from deploy.local.picture.elements import Element, TimeScale, element, group, shortened, titled
from deploy.local.picture.facts import Away, Campaign, Facts
from deploy.local.picture.lanes import Colours, Lane

WIDTH_PX, LEFT_PX, RIGHT_PX, AXIS_PX = 1200.0, 168.0, 84.0, 20.0
GAP_PX = 10.0  # between two kinds of lane


def drawn(facts: Facts) -> Element:
    scale = TimeScale(facts.began_s, facts.ended_s, LEFT_PX, WIDTH_PX - RIGHT_PX)
    y, parts = 0.0, []
    for lane in _lanes(facts, scale):
        parts.append(group(_framed(lane), y))
        y += lane.height
    over = [*_grid(scale, y), *parts, *(_band(one, scale, y) for one in facts.away)]
    drawing = element("svg", *over, viewBox=f"0 0 {WIDTH_PX:g} {y:g}", role="img", class_="time-line")
    return titled(drawing, "Time line of campaigns, devices, faults and rows")


def _lanes(facts: Facts, scale: TimeScale) -> Iterator[Lane]:
    colours, gap = Colours(facts.versions), Lane("", "", GAP_PX, ())
    yield lanes.axis(scale)
    yield from (waves.campaign(one, version_of(one, facts), colours, scale) for one in facts.campaigns)
    yield gap
    most = most_per_s(facts)
    for device in facts.devices:
        yield lanes.device(device, facts.marks, colours, scale, facts.bin_s, most)
    if facts.marks or facts.away:
        yield lanes.faults(facts.marks, facts.away, scale)
        yield gap
    yield row_lanes.rows(facts.rows, scale, facts.bin_s)
    yield row_lanes.on_their_way(facts.rows, scale, facts.bin_s)
    yield lanes.axis(scale)


def _grid(scale: TimeScale, height: float) -> Iterator[Element]:
    for tick in scale.ticks():
        x = scale.x(scale.began_s + tick)
        yield element("line", x1=x, x2=x, y1=AXIS_PX, y2=height - AXIS_PX, class_="grid")


def most_per_s(facts: Facts) -> float:
    """Of any device in any bin, all bundles together; the top of every device's area."""
    rates: dict[tuple[str, float], float] = {}
    for device in facts.devices:
        for one in device.answers:
            rates[device.id, one.at_s] = rates.get((device.id, one.at_s), 0) + one.count / facts.bin_s
    return float(max(1, ceil(max(rates.values(), default=1))))


def version_of(campaign: Campaign, facts: Facts) -> str:
    return facts.releases.get(campaign.release, campaign.release)


def _framed(lane: Lane) -> list[Element]:
    """With its name in the left margin."""
    middle = 14.0 if lane.height < 40 else lane.height / 2 - 2
    title = element("text", shortened(lane.title, LEFT_PX - 40), x=0, y=middle if lane.title else 14, class_="strong")
    subtitle = element("text", lane.subtitle, x=0, y=middle + 14 if lane.title else 14, class_="small")
    return [*([title] if lane.title else []), *([subtitle] if lane.subtitle and (lane.height >= 30 or not lane.title) else []), *lane.parts]


def _band(one: Away, scale: TimeScale, height: float) -> Element:
    x, width = scale.x(one.from_s), max(1.5, scale.width(one.from_s, one.to_s))
    band = element("rect", x=x, y=AXIS_PX, width=width, height=height - 2 * AXIS_PX, class_="band")
    return titled(band, one.words)
