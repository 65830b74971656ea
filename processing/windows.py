"""Features of windows of frames: rows in, one row for each window out. Pure; device, training and evaluation use this one.

    {"windows": [{"name": "five_seconds", "every_s": 5, "features": [{"name": "parts", "how": "sum", "of": "count"}]}]}

A window's place follows from the row alone: pane number = mono_us // length, or frame_no // length. So a frame belongs to one pane, one at
the border to the later one, and a table of rows gives the windows that the device made. A window of several panes slides by one pane.

What was not seen from its first moment to its last one says so, because the pipeline or the bundle began or ended inside of it: `whole` is
false.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from functools import partial
from operator import itemgetter
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from processing.aggregates import HOW, OWN, Aggregate, Quantile, Share
from processing.spec import Fields, SpecError

Row = Sequence[Any]  # values in schema order; the first three are a Moment
Column = Mapping[str, Any]  # {name, type, nullable, min, max}

MAX_WINDOWS, MAX_FEATURES, MAX_PANES = 8, 64, 60
MAX_EVERY_S, MAX_FRAMES = 86_400, 1_000_000
MAX_TEXT = 200
MAX_MOST, MAX_HELD = 10_000, 1_000_000  # values that one quantile looks at, and that all of a bundle hold: 8 MB
_F32 = struct.Struct("<f")


class Moment(NamedTuple):
    """Where a frame stands: the first three columns of every row, and of every window's, whose own are those of its last row."""

    frame_no: int
    event_utc: int  # microseconds
    mono_us: int


def _column(name: str, kind: str, nullable: bool = False, low: Any = None, high: Any = None) -> Column:
    return {"name": name, "type": kind, "nullable": nullable, "min": low, "max": high}


OWN_COLUMNS = (
    _column("window_no", "i64", low=0),  # of its last pane
    _column("first_frame_no", "i64", low=0),
    _column("frames", "i64", low=1),  # rows in it; frames between first and last that are not among them had no answer
    _column("whole", "bool"),
)
_MOMENT = len(Moment._fields)
_FRAME_NO, _MONO_US = (Moment._fields.index(name) for name in ("frame_no", "mono_us"))


class Feature(NamedTuple):
    column: Column
    of: Callable[[Row], Any]  # what of a row is added
    make: Callable[[], Aggregate]
    most: int = 0  # values that it keeps of one window


class Pane:
    def __init__(self, number: int, features: Sequence[Feature]) -> None:
        self.number, self.frames = number, 0
        self.first_frame_no, self.last = -1, Moment(-1, 0, 0)
        self._features, self._aggregates = features, [feature.make() for feature in features]

    def add(self, row: Row) -> None:
        self._count(1, row[0], Moment(*row[:_MOMENT]))
        for feature, aggregate in zip(self._features, self._aggregates):
            aggregate.add(feature.of(row))

    def merge(self, later: Pane) -> None:
        self._count(later.frames, later.first_frame_no, later.last)
        for aggregate, other in zip(self._aggregates, later._aggregates):
            aggregate.merge(other)

    def _count(self, frames: int, first_frame_no: int, last: Moment) -> None:
        self.first_frame_no = self.first_frame_no if self.frames else first_frame_no
        self.frames, self.last = self.frames + frames, last

    def row(self, whole: bool) -> list[Any]:
        values = (aggregate.value() for aggregate in self._aggregates)
        return [*self.last, self.number, self.first_frame_no, self.frames, whole, *values]


class Window:
    """One compiled entry of `windows`."""

    def __init__(self, name: str, place: int, length: int, panes: int, features: Sequence[Feature]) -> None:
        self.name, self.length, self.panes, self.features = name, length, panes, tuple(features)
        self._place = place

    @property
    def columns(self) -> list[Column]:
        """Of its row, after those of a Moment."""
        return [*OWN_COLUMNS, *(feature.column for feature in self.features)]

    def position(self, moment: Row) -> int:
        return int(moment[self._place])


class Folding:
    """Rows of one life of the pipeline under one bundle, in order, into one kind of window."""

    def __init__(self, window: Window, began: Row) -> None:
        """`began`: every row from this moment on will come here."""
        self._window, self._since = window, window.position(began)
        self._closed: deque[Pane] = deque(maxlen=window.panes)
        self._open: Pane | None = None
        self._last_frame_no = -1

    def add(self, row: Row) -> list[Any] | None:
        """The row of the window that ended before this one, if any. Raises ValueError for a frame that is not after the last one."""
        if row[0] <= self._last_frame_no:
            raise ValueError(f"frame {row[0]} after frame {self._last_frame_no}: rows come in order, each once")
        self._last_frame_no = row[0]
        finished = self.until(row)
        if self._open is None:
            self._open = Pane(self._window.position(row) // self._window.length, self._window.features)
        self._open.add(row)
        return finished

    def until(self, moment: Row) -> list[Any] | None:
        """The row of the window that has ended, if one has: no frame from `moment` on can belong to it."""
        if self._open is None or self._window.position(moment) < (self._open.number + 1) * self._window.length:
            return None
        return self._close(ended=True)

    def end(self) -> list[Any] | None:
        """What is open, as it is: the bundle changes, or the process ends."""
        return None if self._open is None else self._close(ended=False)

    def _close(self, ended: bool) -> list[Any] | None:
        if self._open is None:
            return None
        first = self._open.number - self._window.panes + 1
        merged = Pane(self._open.number, self._window.features)
        self._closed.append(self._open)
        self._open = None
        for pane in self._closed:
            if pane.number >= first:
                merged.merge(pane)
        return merged.row(whole=ended and first * self._window.length >= self._since)


def windows_of(window: Window, rows: Iterable[Row], began: Row | None = None) -> list[list[Any]]:
    """The windows of a table of rows of one device, one boot and one bundle, ordered by frame_no.

    `began`: from when on the table is complete; by default from its first row on. The last window is not whole: it ends with the table.
    """
    ordered = list(rows)
    if not ordered:
        return []
    folding = Folding(window, began or ordered[0])
    found = [folding.add(row) for row in ordered]
    found.append(folding.end())
    return [row for row in found if row is not None]


# -- the specification


def compile(spec: Mapping[str, Any], columns: Sequence[Column]) -> tuple[Window, ...]:
    """`spec`: a processing.json. Raises SpecError, which names window and field."""
    entries = spec.get("windows", [])
    if not isinstance(entries, list) or len(entries) > MAX_WINDOWS:
        raise SpecError(f"windows is a list of at most {MAX_WINDOWS}")
    windows = tuple(_window(Fields(entry, "name"), columns) for entry in entries)
    _unlike("windows", [window.name for window in windows])
    held = sum((window.panes + 1) * feature.most for window in windows for feature in window.features)
    if held > MAX_HELD:
        raise SpecError(f"quantiles hold (panes + 1) x most values each, at most {MAX_HELD} in all, not {held}")
    return windows


def frames_leave(spec: Mapping[str, Any]) -> bool:
    """Whether rows of frames leave the device, or those of windows only. Raises SpecError."""
    rows = spec.get("rows", "frames")
    if rows not in ("frames", "windows") or (rows == "windows" and not spec.get("windows")):
        raise SpecError("rows is `frames`, or `windows` where there is one")
    return bool(rows == "frames")


def _window(fields: Fields, columns: Sequence[Column]) -> Window:
    name, kind = fields.named(), fields.either("every_s", "frames")
    if kind == "every_s":
        place, length = _MONO_US, 1_000_000 * fields.whole(kind, 1, MAX_EVERY_S)
    else:
        place, length = _FRAME_NO, fields.whole(kind, 2, MAX_FRAMES)
    panes = fields.whole("panes", 1, MAX_PANES, 1)
    features = [_feature(Fields(entry, "name"), columns) for entry in fields.entries("features", MAX_FEATURES)]
    fields.close()
    names = [*Moment._fields, *(column["name"] for column in OWN_COLUMNS), *(feature.column["name"] for feature in features)]
    _unlike(f"{name}: columns", names)
    if kind == "frames":
        _all_held(features, length * panes)
    return Window(name, place, length, panes, features)


def _feature(fields: Fields, columns: Sequence[Column]) -> Feature:
    name = fields.named()
    how = HOW[fields.one_of("how", list(HOW))]
    place = [column["name"] for column in columns].index(fields.one_of("of", [column["name"] for column in columns]))
    column = columns[place]
    if column["type"] not in how.takes:
        raise SpecError("{}: column {} is {}, wanted is one of {}".format(name, column["name"], column["type"], ", ".join(how.takes)))
    more = _MORE[how.make](fields, column) if how.make in _MORE else ()
    fields.close()
    kind = column["type"] if how.type == OWN else how.type
    low, high = (column.get(end) if limit == OWN else limit for end, limit in (("min", how.low), ("max", how.high)))
    nullable = bool(column.get("nullable")) if how.null == OWN else bool(how.null)
    of = _timed(_value(place, column["type"])) if how.timed else _value(place, column["type"])
    return Feature(_column(name, kind, nullable, low, high), of, partial(how.make, *more), more[1] if how.make is Quantile else 0)


def _wanted(fields: Fields, column: Column) -> tuple[Any, ...]:
    value = fields.value("value")
    kind = {"bool": bool, "utf8": str}.get(column["type"], int)
    if type(value) is not kind or (isinstance(value, str) and len(value) > MAX_TEXT):
        raise SpecError("{}: value is one of column {}, which is {}".format(fields.op, column["name"], column["type"]))
    return (value,)


def _quantile(fields: Fields, column: Column) -> tuple[Any, ...]:
    return fields.number("q", 0, 1), fields.whole("most", 1, MAX_MOST)


_MORE: Mapping[Any, Callable[[Fields, Column], tuple[Any, ...]]] = {Share: _wanted, Quantile: _quantile}


def _all_held(features: Iterable[Feature], frames: int) -> None:
    for feature in features:
        if 0 < feature.most < frames:
            raise SpecError("{}: most is {}, of {} frames: it would be null".format(feature.column["name"], feature.most, frames))


def _unlike(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise SpecError(f"{what} have different names")


def _value(place: int, kind: str) -> Callable[[Row], Any]:
    return (lambda row: _single(row[place])) if kind == "f32" else itemgetter(place)


def _timed(value: Callable[[Row], Any]) -> Callable[[Row], Any]:
    return lambda row: (row[_MONO_US], value(row))


def _single(value: Any) -> Any:
    """As the lake keeps it: what is computed from its rows must be what the device computed."""
    if value is None:
        return None
    try:
        return _F32.unpack(_F32.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)  # the row itself is refused for it; its window goes to quarantine
