"""What a window says of one column: values are added one by one, and two parts of a window become one. Pure.

Null is no value: nothing but `last` and `share` looks at it. Mean, spread and slope are kept as Welford and Chan do it: a sum of squares
would lose the spread of values that lie far from zero.
"""

from __future__ import annotations

import math
from array import array
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


class Quantile(Aggregate):
    """Exact, between the two nearest values as numpy's default has it; so the values are kept, and of more than `most` it is none."""

    def __init__(self, q: float, most: int) -> None:
        self._q, self._most = q, most
        self._values, self._too_many = array("d"), False

    def add(self, value: Value) -> None:
        if value is not None:
            self._values.append(value)
            self._bound()

    def merge(self, later: Quantile) -> None:
        self._values.extend(later._values)
        self._too_many = self._too_many or later._too_many
        self._bound()

    def _bound(self) -> None:
        if self._too_many or len(self._values) > self._most:
            self._values, self._too_many = array("d"), True

    def value(self) -> Value:
        if not self._values:
            return None
        ordered, place = sorted(self._values), (len(self._values) - 1) * self._q
        left, part = int(place), place - int(place)
        low, high = ordered[left], ordered[min(left + 1, len(ordered) - 1)]
        return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)  # never beyond the two by rounding


class PerSecond(Aggregate):
    """Of pairs (microseconds of monotonic time, value): the sum per second from the first row to the last.

    The first row's value is that of the time before it, so it does not count.
    """

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._last_us, self._after = 0, 0.0

    def add(self, value: Value) -> None:
        self._join((value[0], value[1] or 0), value[0], 0.0)

    def merge(self, later: PerSecond) -> None:
        if later._first is not None:
            self._join(later._first, later._last_us, later._after)

    def _join(self, first: tuple[int, float], last_us: int, after: float) -> None:
        """`after`: the sum of what follows the first one."""
        self._after = after if self._first is None else self._after + first[1] + after
        self._first, self._last_us = self._first or first, last_us

    def value(self) -> Value:
        us = self._last_us - self._first[0] if self._first is not None else 0
        return self._after / (us / 1_000_000) if us > 0 else None


class Slope(Aggregate):
    """Of pairs (microseconds of monotonic time, value): the change per second, that of the straight line with the least squares."""

    def __init__(self) -> None:
        self._count, self._first_us = 0, 0
        self._mean_s, self._mean = 0.0, 0.0  # seconds since the first one: a boot may be months ago
        self._squares, self._products = 0.0, 0.0  # of the distances in time, and of those with the values'

    def add(self, value: Value) -> None:
        if value[1] is not None:
            self._join(1, value[0], 0.0, float(value[1]), 0.0, 0.0)

    def merge(self, later: Slope) -> None:
        if later._count:
            self._join(later._count, later._first_us, later._mean_s, later._mean, later._squares, later._products)

    def _join(self, count: int, first_us: int, mean_s: float, mean: float, squares: float, products: float) -> None:
        self._first_us = self._first_us if self._count else first_us
        apart_s = (first_us - self._first_us) / 1_000_000 + mean_s - self._mean_s
        apart, total = mean - self._mean, self._count + count
        shared = self._count * count / total
        self._squares += squares + apart_s * apart_s * shared
        self._products += products + apart_s * apart * shared
        self._mean_s += apart_s * count / total
        self._mean += apart * count / total
        self._count = total

    def value(self) -> Value:
        return self._products / self._squares if self._squares > 0 else None


WHOLE = ("i16", "i32", "i64")
_NUMBERS = (*WHOLE, "f32", "f64")
_ORDERED = (*_NUMBERS, "utc_us")
_ANY = (*_ORDERED, "bool", "utf8", "binary")
OWN = "own"  # the type, or the range, of the column that is looked at


class How(NamedTuple):
    """`takes`: types of columns. `type`, `low`, `high`: of the window's column. `null`: whether it can be; OWN: where the values can.

    `timed`: it is given each value with its time.
    """

    make: Callable[..., Aggregate]
    takes: tuple[str, ...]
    type: str
    low: Any = None
    high: Any = None
    null: bool | str = OWN
    timed: bool = False


HOW: Mapping[str, How] = {
    "count": How(_Count, _ANY, "i64", 0, null=False),
    "sum": How(_Sum, _NUMBERS, "f64", null=False),
    "mean": How(_Mean, _NUMBERS, "f64", OWN, OWN),
    "std": How(_Std, _NUMBERS, "f64", 0),
    "min": How(_Min, _ORDERED, OWN, OWN, OWN),
    "max": How(_Max, _ORDERED, OWN, OWN, OWN),
    "last": How(_Last, _ANY, OWN, OWN, OWN),
    "share": How(Share, (*WHOLE, "bool", "utf8"), "f64", 0, 1, null=False),
    "quantile": How(Quantile, _NUMBERS, "f64", OWN, OWN, null=True),  # of too many values it is
    "per_second": How(PerSecond, _NUMBERS, "f64", null=True, timed=True),  # of one row it is
    "slope": How(Slope, _NUMBERS, "f64", null=True, timed=True),
}
