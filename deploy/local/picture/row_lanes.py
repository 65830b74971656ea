"""PURE: rows over time: how many the devices had accepted and the lake had committed, and how many were on their way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from deploy.local.picture.elements import Element, TimeScale, element, titled
from deploy.local.picture.facts import Rows
from deploy.local.picture.lanes import Lane

ROWS_PX, WAITING_PX, TOP_PX, GAP_PX = 54.0, 36.0, 14.0, 8.0
Counted = Sequence[tuple[float, int]]


def cumulative(bins: Iterable[tuple[float, int]], bin_s: float) -> list[tuple[float, int]]:
    """(end of the bin, rows up to then)"""
    ordered = sorted(bins)
    return [(at_s + bin_s, total) for (at_s, _), total in zip(ordered, accumulate(rows for _, rows in ordered), strict=True)]


def waiting(rows: Rows, bin_s: float) -> list[tuple[float, int]]:
    """(end of the bin, accepted and not yet committed then)"""
    change: dict[float, int] = {}
    for sign, bins in ((1, rows.accepted), (-1, rows.committed)):
        for at_s, count in bins:
            change[at_s] = change.get(at_s, 0) + sign * count
    return cumulative(change.items(), bin_s)


def rows(seen: Rows, scale: TimeScale, bin_s: float) -> Lane:
    accepted, committed = cumulative(seen.accepted, bin_s), cumulative(seen.committed, bin_s)
    most = max((total for _, total in (*accepted, *committed)), default=1)
    parts = [
        element("line", x1=scale.left, x2=scale.right, y1=TOP_PX + ROWS_PX, y2=TOP_PX + ROWS_PX, class_="base"),
        titled(_curve(accepted, most, ROWS_PX, scale, "accepted"), "rows that a device made durable, by the time it did"),
        titled(_curve(committed, most, ROWS_PX, scale, "committed"), "rows in the lake, by the time of their commit"),
        *_end_label(accepted, "accepted", scale, TOP_PX + 4),
        *_end_label(committed, "committed", scale, TOP_PX + 36),
    ]
    return Lane("Rows", "accepted and committed", TOP_PX + ROWS_PX + GAP_PX, tuple(parts))


def _curve(points: Counted, most: int, height: float, scale: TimeScale, name: str) -> Element:
    """Steps, from nothing to the last point, and on to the right edge."""
    y = TOP_PX + height
    path = f"M{scale.left:.1f} {y:.1f}"
    for at_s, total in points:
        path += f"H{scale.x(at_s):.1f}V{y - height * max(0, total) / max(1, most):.1f}"
    return element("path", d=f"{path}H{scale.right:.1f}", class_=f"curve {name}")


def _end_label(points: Counted, name: str, scale: TimeScale, y: float) -> list[Element]:
    total = points[-1][1] if points else 0
    figure = element("text", f"{total:,}", x=scale.right + 8, y=y + 4, class_=f"strong {name}")
    return [figure, element("text", name, x=scale.right + 8, y=y + 17, class_="small")]


def on_their_way(seen: Rows, scale: TimeScale, bin_s: float) -> Lane:
    points = waiting(seen, bin_s)
    most_s, most = max(points, key=lambda point: point[1], default=(scale.began_s, 0))
    x = scale.x(most_s)
    side = "end" if x > scale.right - 120 else "start"
    parts = [
        element("line", x1=scale.left, x2=scale.right, y1=TOP_PX + WAITING_PX, y2=TOP_PX + WAITING_PX, class_="base"),
        titled(_curve(points, most, WAITING_PX, scale, "waiting"), "rows accepted and not yet committed"),
        element("text", f"at most {most:,}", x=x, y=TOP_PX - 3, class_=f"small {side}"),
    ]
    return Lane("Rows on their way", "kept on the devices", TOP_PX + WAITING_PX + GAP_PX, tuple(parts))
