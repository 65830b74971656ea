"""PURE: elements of the page as a tree, so that every text in it is escaped by the serializer, and where text and time go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from xml.etree import ElementTree

Element = ElementTree.Element
TEXT_PX = 12.0
_SMALL, _CAPITAL = 0.6, 0.72  # of the size: DejaVu Sans, the widest font that the page may get


def element(tag: str, *content: Element | str, **attributes: str | float) -> Element:
    """`class_` is `class`, `stroke_width` is `stroke-width`; numbers keep one decimal."""
    made = ElementTree.Element(tag, {name.rstrip("_").replace("_", "-"): _value(value) for name, value in attributes.items()})
    for part in content:
        if isinstance(part, str):
            _append_text(made, part)
        else:
            made.append(part)
    return made


def _append_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


def titled(shape: Element, title: str) -> Element:
    """With a tooltip, which a screen reader reads too."""
    shape.insert(0, element("title", title))
    return shape


def group(parts: Iterable[Element], y: float = 0.0) -> Element:
    return element("g", *parts, transform=f"translate(0 {_value(y)})")


def width_of(text: str, size_px: float = TEXT_PX) -> float:
    return size_px * sum(_CAPITAL if letter.isupper() else _SMALL for letter in text)


def shortened(text: str, room_px: float, size_px: float = TEXT_PX) -> str:
    """`text`, cut with an ellipsis where it does not fit; "" when nothing of use does."""
    if width_of(text, size_px) <= room_px:
        return text
    fits = int(room_px / (size_px * _SMALL))
    return text[: fits - 1].rstrip() + "…" if fits >= 4 else ""


@dataclass(frozen=True)
class TimeScale:
    """Seconds to pixels, between two edges."""

    began_s: float
    ended_s: float
    left: float
    right: float

    def x(self, at_s: float) -> float:
        share = (at_s - self.began_s) / max(1e-9, self.ended_s - self.began_s)
        return self.left + (self.right - self.left) * min(1.0, max(0.0, share))

    def width(self, from_s: float, to_s: float) -> float:
        return max(0.0, self.x(to_s) - self.x(from_s))

    def ticks(self, at_least_px: float = 70.0) -> list[float]:
        """Round offsets from the beginning, in seconds."""
        span = self.ended_s - self.began_s
        steps = [step for step in _STEPS if step / max(1e-9, span) * (self.right - self.left) >= at_least_px]
        step = steps[0] if steps else _STEPS[-1]
        return [float(offset) for offset in range(0, int(span) + 1, step)]


HALF_MARK_PX, AIR_PX = 6.0, 5.0
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def offset(seconds: float) -> str:
    """0:05, 1:02:00"""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(frozen=True)
class Placed:
    row: int
    to_the_left: bool  # of its mark


def placed(labels: Sequence[tuple[float, float]], left: float, right: float) -> list[Placed]:
    """Each label (x of its mark, width with the mark; in order of x) in the first row where it touches no other.

    It stands to the right of its mark, or to the left where there is no room or the next mark is near: so a crowd takes half the rows.
    """
    rows: list[list[tuple[float, float]]] = []
    found = []
    for (x, width), after in zip_longest(labels, labels[1:]):
        near = after is not None and after[0] - x < width
        sides = [
            side
            for side in ((True, False) if near else (False, True))
            if left <= (x - width if side else x) <= right - (0 if side else width)
        ]
        spot = next(_free(rows, x, width, sides or [False]))
        rows[spot.row].append(_taken(x, width, spot.to_the_left))
        found.append(spot)
    return found


def _free(rows: list[list[tuple[float, float]]], x: float, width: float, sides: Sequence[bool]) -> Iterator[Placed]:
    for number in range(len(rows) + 1):
        if number == len(rows):
            rows.append([])
        for side in sides:
            begin, end = _taken(x, width, side)
            if all(end <= other_begin or begin >= other_end for other_begin, other_end in rows[number]):
                yield Placed(number, side)


def _taken(x: float, width: float, to_the_left: bool) -> tuple[float, float]:
    """With half of the mark, and some air beyond the text."""
    return (x - width - AIR_PX, x + HALF_MARK_PX) if to_the_left else (x - HALF_MARK_PX, x + width + AIR_PX)
