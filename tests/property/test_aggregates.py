"""Laws of aggregates: however rows are cut into parts, and whichever parts are merged first, it is what numpy makes of all of them."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.aggregates import HOW, Aggregate, PerSecond, Quantile, Slope

MORE: Any = {"share": (3,), "quantile": (0.9, 1000)}
EXACT = ("count", "min", "max", "last", "share", "quantile")  # to the bit, in any cut; sums differ by their rounding
NUMBERS = st.one_of(st.none(), st.integers(0, 6), st.floats(-1e6, 1e6).map(lambda value: float(np.float32(value))))
ROWS = st.lists(st.tuples(st.sampled_from([20_000, 50_000, 1_000_000, 30_000_000]), NUMBERS), min_size=1, max_size=40)


def made(how: str) -> Aggregate:
    aggregate: Aggregate = HOW[how].make(*MORE.get(how, ()))
    return aggregate


def pairs(rows: Any, began_us: int = 86_400_000_000) -> Any:
    """(microseconds, value) from steps of time."""
    return [(began_us + int(at), value) for at, (_, value) in zip(np.cumsum([step for step, _ in rows]), rows)]


def added(aggregate: Aggregate, rows: Any) -> Aggregate:
    for row in rows:
        aggregate.add(row if isinstance(aggregate, (PerSecond, Slope)) else row[1])
    return aggregate


def cut(data: Any, rows: Any) -> Any:
    """Into parts, none of them empty: a pane begins with a row."""
    edges = sorted(data.draw(st.sets(st.integers(1, max(1, len(rows) - 1)), max_size=6))) if len(rows) > 1 else []
    return [rows[begin:end] for begin, end in zip([0, *edges], [*edges, len(rows)])]


def merged(data: Any, parts: Any) -> Aggregate:
    """Neighbours, in whatever order."""
    while len(parts) > 1:
        at = data.draw(st.integers(0, len(parts) - 2))
        parts[at].merge(parts.pop(at + 1))
    return parts[0]  # type: ignore[no-any-return]


def values(rows: Any) -> Any:
    return np.array([value for _, value in rows if value is not None], np.float64)


def near(value: Any, scale: float = 1.0) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-7, abs=1e-9 * scale)


@pytest.mark.parametrize("how", HOW)
@given(ROWS, st.data())
def test_parts_come_to_what_the_whole_comes_to(how: str, rows: Any, data: Any) -> None:
    rows = pairs(rows)
    whole = added(made(how), rows).value()
    parts = merged(data, [added(made(how), part) for part in cut(data, rows)]).value()
    assert parts == (whole if how in EXACT else near(whole, 1e6))


@pytest.mark.parametrize("how", HOW)
@given(ROWS, ROWS)
def test_merging_leaves_the_later_part_as_it_was(how: str, first: Any, later: Any) -> None:
    part = added(made(how), pairs(later, began_us=10**13))
    before = copy.deepcopy(vars(part))
    added(made(how), pairs(first)).merge(part)
    assert vars(part) == before


@pytest.mark.parametrize("how", ["count", "min", "max", "share", "quantile"])
@given(ROWS, st.data())
def test_the_order_of_rows_makes_no_difference_where_time_has_no_part(how: str, rows: Any, data: Any) -> None:
    assert added(made(how), rows).value() == added(made(how), data.draw(st.permutations(rows))).value()


@given(ROWS, st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 0.95, 1.0])), st.data())
def test_a_quantile_is_numpys_to_the_bit_in_any_order(rows: Any, q: float, data: Any) -> None:
    shuffled = data.draw(st.permutations(rows))
    seen = merged(data, [added(Quantile(q, 40), part) for part in cut(data, shuffled)]).value()
    assert seen == (float(np.quantile(values(rows), q)) if len(values(rows)) else None)


@given(ROWS, st.integers(1, 12), st.data())
def test_a_quantile_of_more_values_than_it_may_hold_is_none_and_holds_none(rows: Any, most: int, data: Any) -> None:
    quantile = merged(data, [added(Quantile(0.5, most), part) for part in cut(data, rows)])
    held = len(values(rows))
    assert (quantile.value() is None) == (held == 0 or held > most)
    assert len(vars(quantile)["_values"]) <= most


@given(ROWS)
def test_per_second_is_what_came_after_the_first_row_over_the_time_from_there(rows: Any) -> None:
    rows = pairs(rows)
    seconds, came = (rows[-1][0] - rows[0][0]) / 1e6, math.fsum(value or 0 for _, value in rows[1:])
    assert added(PerSecond(), rows).value() == near(came / seconds if seconds > 0 else None, 1e6 / (seconds or 1))


def test_per_second_of_a_steady_flow_is_the_same_for_whole_and_cut_windows() -> None:
    flow = [(50_000 * number, 2) for number in range(200)]
    assert [added(PerSecond(), part).value() for part in (flow, flow[:100], flow[37:60])] == [pytest.approx(40)] * 3


@given(ROWS)
def test_a_slope_is_that_of_the_line_with_the_least_squares(rows: Any) -> None:
    there = [(at, value) for at, value in pairs(rows) if value is not None]
    seen = added(Slope(), pairs(rows)).value()
    if len(there) < 2:
        assert seen is None
    else:
        at, value = (np.array(column, np.float64) for column in zip(*there))
        at = (at - at.mean()) / 1e6
        assert seen == near(float(np.polyfit(at, value, 1)[0]), 1e6 / float(np.ptp(at)))


def test_a_slope_far_from_zero_and_late_in_a_boot_is_still_that_slope() -> None:
    rows = [(30_000_000_000_000 + 50_000 * number, 1e9 + 0.25 * number) for number in range(100)]
    assert added(Slope(), rows).value() == pytest.approx(5.0, rel=1e-6)
