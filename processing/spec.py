"""Reading one entry of a processing.json: every field by name, within its limits, and none left over. Pure.

A specification comes with a bundle and may be hostile or newer than this code: a field that is not known would be done without, and the
bytes would be others than in training. So it is refused.
"""

from __future__ import annotations

import math
import re
from typing import Any, Mapping, Sequence

CLASS_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
MAX_CLASSES = 256


class SpecError(ValueError):
    """This specification cannot be done; the message names operation and field."""


class FrameUnfitError(ValueError):
    """A frame that this specification cannot work on; the next one may fit."""


class Fields:
    """An operation, whose name is its `op`, or a window or a feature, which has a `name`."""

    def __init__(self, entry: Any, title: str = "op") -> None:
        if not isinstance(entry, Mapping) or not isinstance(entry.get(title), str):
            raise SpecError("{} is an object with its name as `{}`".format("an operation" if title == "op" else "an entry", title))
        self.op = str(entry[title])
        self._left = {str(name): value for name, value in entry.items() if name != title}

    def named(self) -> str:
        """A name that the specification gives; it becomes part of table and column names."""
        if not CLASS_NAME.fullmatch(self.op):
            raise SpecError(f"a name is of small letters, digits and _, not {_short(self.op)}")
        return self.op

    def either(self, *names: str) -> str:
        """The one of `names` that is given."""
        given = [name for name in names if name in self._left]
        if len(given) != 1:
            raise SpecError("{} has one of {}".format(_short(self.op), " and ".join(names)))
        return given[0]

    def value(self, name: str) -> Any:
        """Whatever stands there: the caller judges."""
        return self._take(name)

    def entries(self, name: str, most: int) -> Sequence[Any]:
        return self._list(name, most)

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise SpecError(f"{self.op}: {name} is a whole number from {low} to {high}, not {_short(value)}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        return self._number(name, self._take(name), low, high)

    def numbers(self, name: str, low: float, high: float, most: int) -> tuple[float, ...]:
        return tuple(self._number(name, value, low, high) for value in self._list(name, most))

    def one_of(self, name: str, known: Sequence[str], default: str | None = None) -> str:
        value = self._take(name, default)
        if value not in known:
            raise SpecError("{}: {} is one of {}, not {}".format(self.op, name, ", ".join(known), _short(value)))
        return str(value)

    def classes(self, name: str) -> tuple[str, ...]:
        """Names of classes; they become part of column names."""
        names = self._list(name, MAX_CLASSES)
        if not all(isinstance(one, str) and CLASS_NAME.fullmatch(one) for one in names) or len(set(names)) != len(names):
            raise SpecError(f"{self.op}: {name} are different names of small letters, digits and _, not {_short(names)}")
        return tuple(names)

    def close(self) -> None:
        """After all fields were read."""
        if self._left:
            raise SpecError("{}: unknown field {}".format(self.op, ", ".join(sorted(map(_short, self._left)))))

    def _take(self, name: str, default: Any = None) -> Any:
        if name not in self._left and default is None:
            raise SpecError(f"{self.op} lacks {name!r}")
        return self._left.pop(name, default)

    def _number(self, name: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high or not math.isfinite(value):
            raise SpecError(f"{self.op}: {name} is a number from {low:g} to {high:g}, not {_short(value)}")
        return float(value)

    def _list(self, name: str, most: int) -> Sequence[Any]:
        value = self._take(name)
        if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= most:
            raise SpecError(f"{self.op}: {name} is a list of 1 to {most}, not {_short(value)}")
        return value


def _short(value: Any) -> str:
    return repr(value)[:80]
