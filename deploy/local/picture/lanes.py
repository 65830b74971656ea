"""PURE: the time line's lanes. Each is drawn from its own top and says how high it is; time_line.py stacks them on one scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from deploy.local.picture.elements import Element, TimeScale, element, offset, placed, titled, width_of
from deploy.local.picture.facts import Answers, Away, Device, Mark, Phase, duration

MARK_ROW_PX = 17.0
LABEL_PX, AREA_PX, STRIP_PX, DEVICE_GAP_PX = 17.0, 42.0, 7.0, 20.0


@dataclass(frozen=True)
class Lane:
    title: str
    subtitle: str
    height: float
    parts: tuple[Element, ...]


@dataclass(frozen=True)
class Colours:
    """Of a bundle: the class that its model version has in the style sheet, and what it is called."""

    versions: Mapping[str, str]  # digest -> v2

    def class_of(self, digest: str) -> str:
        names = list(dict.fromkeys(self.versions.values()))
        name = self.versions.get(digest)
        return f"c{names.index(name) % 5}" if name is not None else "cx"

    def of_version(self, version: str) -> str:
        return next((self.class_of(digest) for digest, name in self.versions.items() if name == version), "cx")

    def name(self, digest: str) -> str:
        return self.versions.get(digest, "unknown")


# -- faults


def faults(marks: Sequence[Mark], away: Sequence[Away], scale: TimeScale) -> Lane:
    """Every mark and every absence with its words, in as many rows as it takes."""
    labels = sorted([*(_of_mark(mark) for mark in marks), *(_of_absence(one) for one in away)], key=lambda label: label.at_s)
    spots = placed([(scale.x(label.at_s), width_of(label.text) + 12) for label in labels], 0, scale.right + 80)
    rows = max((spot.row for spot in spots), default=0) + 1
    parts = []
    for label, spot in zip(labels, spots, strict=True):
        x, y = scale.x(label.at_s), spot.row * MARK_ROW_PX + 10
        words = element("text", label.text, x=x - 9 if spot.to_the_left else x + 9, y=y + 4, class_="end" if spot.to_the_left else "")
        parts.append(titled(element("g", glyph(label.kind, x, y), words), label.title))
    return Lane("Faults", "kills, absences, lies", rows * MARK_ROW_PX + 6, tuple(parts))


@dataclass(frozen=True)
class _Label:
    at_s: float
    kind: str
    text: str
    title: str


def _of_mark(mark: Mark) -> _Label:
    return _Label(mark.at_s, mark.kind, mark.words, f"{mark.in_full} {mark.device}".strip())


def _of_absence(one: Away) -> _Label:
    return _Label(one.from_s, "killed" if one.killed else "away", one.words, one.words)


def glyph(kind: str, x: float, y: float) -> Element:
    """A form of its own for each kind, so that colour is not needed to tell them apart."""
    forms: Mapping[str, Callable[[float, float], str]] = {
        "killed": lambda x, y: f"M{x - 5:.1f} {y - 4:.1f}h10l-5 9z",
        "refused": lambda x, y: f"M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
        "fault": lambda x, y: f"M{x - 4.5:.1f} {y - 4.5:.1f}h9v9h-9z",
        "away": lambda x, y: f"M{x - 1:.1f} {y - 5:.1f}h5v2.5h-2.5v5h2.5v2.5h-5z",
    }
    return element("path", d=forms[kind](x, y), class_=f"mark {kind}")


# -- a device


def device(seen: Device, marks: Iterable[Mark], colours: Colours, scale: TimeScale, bin_s: float, most: float) -> Lane:
    """`most`: answers per second at the top of the area, the same for all devices."""
    parts = [
        element("line", x1=scale.left, x2=scale.right, y1=LABEL_PX + AREA_PX, y2=LABEL_PX + AREA_PX, class_="base"),
        element("text", f"{most:g}/s", x=scale.left - 6, y=LABEL_PX + 9, class_="small end"),
        element("text", "0", x=scale.left - 6, y=LABEL_PX + AREA_PX, class_="small end"),
        *_areas(seen.answers, colours, scale, bin_s, most),
        *_version_labels(seen.answers, colours, scale, bin_s),
        *_strip(seen.phases, colours, scale),
        *(titled(glyph(mark.kind, scale.x(mark.at_s), LABEL_PX + AREA_PX - 7), mark.in_full) for mark in marks if mark.device == seen.id),
    ]
    return Lane(seen.name, f"{seen.id[:12]}…", LABEL_PX + AREA_PX + STRIP_PX + DEVICE_GAP_PX, tuple(parts))


def _areas(answers: Sequence[Answers], colours: Colours, scale: TimeScale, bin_s: float, most: float) -> Iterator[Element]:
    """One area per bundle; where two share a bin they are stacked."""
    floor: dict[float, int] = {}
    for digest in dict.fromkeys(one.digest for one in answers):
        own = [one for one in answers if one.digest == digest]
        boxes = [(one.at_s, floor.get(one.at_s, 0), floor.get(one.at_s, 0) + one.count) for one in own]
        floor.update({at_s: top for at_s, _, top in boxes})
        title = f"{colours.name(digest)} {digest[:12]}: {sum(one.count for one in own)} answers"
        outline = "".join(_outline(run, scale, bin_s, AREA_PX / (most * bin_s)) for run in _unbroken(boxes, bin_s))
        yield titled(element("path", d=outline, class_=f"answers {colours.class_of(digest)}"), title)


Box = tuple[float, int, int]  # second, lower and upper count


def _unbroken(boxes: Iterable[Box], bin_s: float) -> list[list[Box]]:
    """Runs of neighbouring bins, so that no hairline shows between two of them."""
    runs: list[list[Box]] = []
    for box in sorted(boxes):
        if runs and box[0] == runs[-1][-1][0] + bin_s:
            runs[-1].append(box)
        else:
            runs.append([box])
    return runs


def _outline(run: Sequence[Box], scale: TimeScale, bin_s: float, per_px: float) -> str:
    """Along the tops, and back along the bottoms."""
    floor_y = LABEL_PX + AREA_PX
    there = "".join(f"V{floor_y - top * per_px:.1f}H{scale.x(at_s + bin_s):.1f}" for at_s, _, top in run)
    back = "".join(f"V{floor_y - low * per_px:.1f}H{scale.x(at_s):.1f}" for at_s, low, _ in reversed(run))
    return f"M{scale.x(run[0][0]):.1f} {floor_y:.1f}{there}{back}z"


def spells(answers: Iterable[Answers], bin_s: float) -> list[tuple[str, float, float]]:
    """(digest, from, to) of the bundle that gave most answers, bin by bin; a bundle keeps its spell over bins without any answer."""
    best: dict[float, Answers] = {}
    for one in answers:
        if one.at_s not in best or one.count > best[one.at_s].count:
            best[one.at_s] = one
    runs = [list(run) for _, run in groupby((best[at_s] for at_s in sorted(best)), key=lambda one: one.digest)]
    return [(run[0].digest, run[0].at_s, run[-1].at_s + bin_s) for run in runs]


def _version_labels(answers: Sequence[Answers], colours: Colours, scale: TimeScale, bin_s: float) -> Iterator[Element]:
    for digest, from_s, to_s in spells(answers, bin_s):
        room, name = scale.width(from_s, to_s), colours.name(digest)
        text = next((text for text in (f"{name}  {digest[:8]}", name) if width_of(text) <= max(room, 20.0)), "")
        line = element("path", d=f"M{scale.x(from_s):.1f} {LABEL_PX + AREA_PX:.1f}V4", class_="turn")
        yield titled(element("g", line, element("text", text, x=scale.x(from_s) + 4, y=12, class_="strong")), f"{name} {digest}")


def _strip(phases: Sequence[Phase], colours: Colours, scale: TimeScale) -> Iterator[Element]:
    """Below the area, in the colour of the bundle that is being put in; named where the next name leaves room."""
    y, named = LABEL_PX + AREA_PX + 2, [phase for phase in phases if _name(phase)]
    for phase in phases:
        kind = "back" if phase.kind == "rollback" else phase.state.lower()
        x, width = scale.x(phase.from_s), max(1.0, scale.width(phase.from_s, phase.to_s))
        bar = element("rect", x=x, y=y, width=width, height=STRIP_PX, class_=f"phase {kind} {colours.class_of(phase.digest)}")
        title = f"{phase.kind} of {colours.name(phase.digest)}: {phase.state}, {duration(phase.to_s - phase.from_s)}"
        yield titled(bar, title)
    for phase, after in zip_longest(named, named[1:]):
        x, text = scale.x(phase.from_s), f"{colours.name(phase.digest)} {_name(phase)}"
        if after is None or width_of(text, 11) < scale.x(after.from_s) - x:
            yield element("text", text, x=x, y=y + STRIP_PX + 11, class_="small")


def _name(phase: Phase) -> str:
    """Of what is worth one; the other states pass in a moment. A roll back has one name, at its beginning."""
    if phase.kind == "rollback":
        return "back" if phase.state == "OFFERED" else ""
    return {"SHADOWING": "shadow", "PROBATION": "probation"}.get(phase.state, "")


def axis(scale: TimeScale) -> Lane:
    labels = [element("text", offset(tick), x=scale.x(scale.began_s + tick), y=14, class_="small middle") for tick in scale.ticks()]
    return Lane("", "minutes:seconds", 20.0, tuple(labels))
