"""PURE: a campaign's lane: its waves as bars (open, soaking), their verdicts, and in words how it ended."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.local.picture.elements import Element, TimeScale, element, shortened, titled, width_of
from deploy.local.picture.facts import Campaign, JudgedGate, Stretch, duration
from deploy.local.picture.gates import in_words
from deploy.local.picture.lanes import Colours, Lane

ROW_PX, BAR_PX, TOP_PX = 24.0, 14.0, 4.0
OUTCOMES = {
    "SUCCEEDED": "rolled out",
    "ROLLED_BACK": "stopped and rolled back",
    "PAUSED": "stopped",
    "ABORTED": "aborted",
    "RUNNING": "under way",
    "ROLLING_BACK": "rolling back",
}


def campaign(seen: Campaign, version: str, colours: Colours, scale: TimeScale) -> Lane:
    colour = colours.of_version(version)
    parts = [*(_bar(stretch, colour, scale) for stretch in seen.stretches if stretch.to_s > stretch.from_s), *_back(seen, scale)]
    parts += [_verdict(stretch, seen, scale) for stretch in seen.stretches if stretch.state in ("PASSED", "FAILED")]
    return Lane(f"{version} {seen.name}", "", ROW_PX, (*parts, *_words(seen, scale)))


def _bar(stretch: Stretch, colour: str, scale: TimeScale) -> Element:
    x, width = scale.x(stretch.from_s), max(2.0, scale.width(stretch.from_s, stretch.to_s))
    bar = element("rect", x=x, y=TOP_PX, width=width, height=BAR_PX, rx=2, class_=f"wave {stretch.state.lower()} {colour}")
    text = next((text for text in (f"wave {stretch.wave}", str(stretch.wave)) if width_of(text, 11) + 16 <= width), "")
    label = element(
        "text", text if stretch.state == "OPEN" else "", x=x + 4 if stretch.wave == 1 else x + 10, y=TOP_PX + 11, class_="small inside"
    )
    return titled(element("g", bar, label), f"wave {stretch.wave} {stretch.state}, {duration(stretch.to_s - stretch.from_s)}")


def _back(seen: Campaign, scale: TimeScale) -> Iterator[Element]:
    if seen.rolled_back:
        began_s, ended_s = seen.rolled_back
        bar = element(
            "rect", x=scale.x(began_s), y=TOP_PX + 4, width=max(2.0, scale.width(began_s, ended_s)), height=BAR_PX - 8, class_="back"
        )
        yield titled(bar, f"rolling back, {duration(ended_s - began_s)}")


def _verdict(stretch: Stretch, seen: Campaign, scale: TimeScale) -> Element:
    """A disc with a tick or a cross, told apart without colour."""
    x, y = scale.x(stretch.from_s), TOP_PX + BAR_PX / 2
    form = f"M{x - 3.5:.1f} {y:.1f}l2.5 3l4.5 -5.5" if stretch.state == "PASSED" else f"M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"
    disc = element("circle", cx=x, cy=y, r=7, class_=f"disc {stretch.state.lower()}")
    gates = "; ".join(in_words(one) for one in seen.gates if one.wave == stretch.wave)
    return titled(element("g", disc, element("path", d=form, class_="sign")), f"wave {stretch.wave} {stretch.state}: {gates}")


def _words(seen: Campaign, scale: TimeScale) -> Iterator[Element]:
    """How it ended, on the side of the bars where there is more room."""
    if not seen.stretches:
        return
    first = scale.x(seen.stretches[0].from_s) - 12
    last = max(scale.x(stretch.to_s) for stretch in seen.stretches)
    last = max(last, scale.x(seen.rolled_back[1]) if seen.rolled_back else last) + 12
    right = scale.right - last >= first - scale.left
    room = scale.right + 80 - last if right else first - scale.left
    text = shortened(outcome(seen), room)
    yield titled(element("text", text, x=last if right else first, y=TOP_PX + 11, class_="" if right else "end"), outcome(seen))


def outcome(seen: Campaign) -> str:
    failed = [in_words(one) for one in _failed(seen)]
    return OUTCOMES[seen.state] + (": " + ", ".join(failed) if failed else "")


def _failed(seen: Campaign) -> list[JudgedGate]:
    return [one for one in seen.gates if one.gate.verdict == "failed"]
