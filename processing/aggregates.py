"""What a window says of one column: values are added one by one, and two parts of a window become one. Pure.

Null is no value: nothing but `last` and `share` looks at it. Mean and spread are kept as Welford and Chan do it: a sum of squares would
lose the spread of values that lie far from zero.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping, NamedTuple

Value = Any  # of a row


class Aggregate:
    """Starts as that of no values. `merge` takes one of the same kind, whose values came later."""

    def add(self, value: Value) -> None:
        raise TypeError("each aggregate adds in its own way")

    def merge(self, later: Any) -> None:
        raise TypeError("each aggregate merges in its own way")

    def value(self) -> Value:
        """None where there is none."""
        raise TypeError("each aggregate has a value of its own")


class _Count(Aggregate):
    def __init__(self) -> None:
        self._count = 0

    def add(self, value: Value) -> None:
        self._count += value is not None

    def merge(self, later: _Count) -> None:
        self._count += later._count

    def value(self) -> Value:
        return self._count


class _Sum(Aggregate):
    def __init__(self) -> None:
        self._sum = 0.0

    def add(self, value: Value) -> None:
        self._sum += 0 if value is None else value

    def merge(self, later: _Sum) -> None:
        self._sum += later._sum

    def value(self) -> Value:
        return self._sum


class _Mean(Aggregate):
    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, value: Value) -> None:
        if value is not None:
            self._join(1, float(value), 0.0)

    def merge(self, later: _Mean) -> None:
        if later._count:
            self._join(later._count, later._mean, later._squares)

    def _join(self, count: int, mean: float, squares: float) -> None:
        apart, total = mean - self._mean, self._count + count
        self._squares += squares + apart * (apart * self._count * count / total)
        self._mean += apart * count / total
        self._count = total

    def value(self) -> Value:
        return self._mean if self._count else None


class _Std(_Mean):
    """Of the values themselves (divided by n), not of what they are a sample of."""

    def value(self) -> Value:
        return math.sqrt(self._squares / self._count) if self._count else None


class _Chosen(Aggregate):
    """One of the values, as it is."""

    def __init__(self) -> None:
        self._value: Value = None

    def add(self, value: Value) -> None:
        if self._value is None or (value is not None and self._before(value)):
            self._value = value

    def merge(self, later: _Chosen) -> None:
        self.add(later._value)

    def value(self) -> Value:
        return self._value

    def _before(self, value: Value) -> bool:
        raise TypeError("each choice is made in its own way")


class _Min(_Chosen):
    def _before(self, value: Value) -> bool:
        return bool(value < self._value)


class _Max(_Chosen):
    def _before(self, value: Value) -> bool:
        return bool(value > self._value)


class _Last(_Chosen):
    """Null when the last row's is."""

    def add(self, value: Value) -> None:
        self._value = value


class Share(Aggregate):
    """Of all rows, nulls among them, those that hold `wanted`."""

    def __init__(self, wanted: Value) -> None:
        self._wanted, self._hits, self._rows = wanted, 0, 0

    def add(self, value: Value) -> None:
        self._rows += 1
        self._hits += value == self._wanted

    def merge(self, later: Share) -> None:
        self._rows += later._rows
        self._hits += later._hits

    def value(self) -> Value:
        return self._hits / self._rows if self._rows else None


WHOLE = ("i16", "i32", "i64")
_NUMBERS = (*WHOLE, "f32", "f64")
_ORDERED = (*_NUMBERS, "utc_us")
_ANY = (*_ORDERED, "bool", "utf8", "binary")
OWN = "own"  # the type, or the range, of the column that is looked at


class How(NamedTuple):
    """`takes`: types of columns. `type`, `low`, `high`: of the window's column. `keeps_null`: it is null where the values can be."""

    make: Callable[..., Aggregate]
    takes: tuple[str, ...]
    type: str
    low: Any = None
    high: Any = None
    keeps_null: bool = True


HOW: Mapping[str, How] = {
    "count": How(_Count, _ANY, "i64", 0, keeps_null=False),
    "sum": How(_Sum, _NUMBERS, "f64", keeps_null=False),
    "mean": How(_Mean, _NUMBERS, "f64", OWN, OWN),
    "std": How(_Std, _NUMBERS, "f64", 0),
    "min": How(_Min, _ORDERED, OWN, OWN, OWN),
    "max": How(_Max, _ORDERED, OWN, OWN, OWN),
    "last": How(_Last, _ANY, OWN, OWN, OWN),
    "share": How(Share, (*WHOLE, "bool", "utf8"), "f64", 0, 1, keeps_null=False),
}
