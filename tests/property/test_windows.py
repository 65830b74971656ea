"""Windows of rows against the definition: group by place, then numpy. And what must hold when the pipeline begins or ends inside of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import windows
from processing.windows import Folding, Moment, Window, windows_of

COLUMNS: list[dict[str, Any]] = [
    {"name": "frame_no", "type": "i64"},
    {"name": "event_utc", "type": "utc_us"},
    {"name": "mono_us", "type": "i64"},
    {"name": "count", "type": "i32", "min": 0, "max": 9},
    {"name": "score", "type": "f32", "nullable": True},
    {"name": "label", "type": "utf8", "nullable": True},
]
COUNT, SCORE, LABEL = 3, 4, 5
FEATURES = [
    {"name": "seen", "how": "count", "of": "score"},
    {"name": "parts", "how": "sum", "of": "count"},
    *({"name": f"{how}_score", "how": how, "of": "score"} for how in ("mean", "std", "min", "max", "last")),
    {"name": "bolts", "how": "share", "of": "label", "value": "bolt"},
    {"name": "p90_score", "how": "quantile", "of": "score", "q": 0.9, "most": 25},
    {"name": "parts_per_second", "how": "per_second", "of": "count"},
    {"name": "drift", "how": "slope", "of": "score"},
]
OWN = Moment._fields + tuple(column["name"] for column in windows.OWN_COLUMNS)
WHOLE = OWN.index("whole")
Rows = Any  # a list of lists; Python 3.8 has no subscript for it


def compiled(**place: int) -> Window:
    return windows.compile({"windows": [{"name": "w", "features": FEATURES, **place}]}, COLUMNS)[0]


WINDOWS = st.sampled_from([compiled(every_s=1), compiled(frames=4), compiled(every_s=1, panes=3), compiled(frames=2, panes=5)])
STEP = st.tuples(
    st.sampled_from([1, 1, 1, 2, 5]),  # frames between had no answer
    st.sampled_from([1, 250_000, 500_000, 999_999, 1_000_000, 4_000_000]),
    st.integers(0, 9),
    st.one_of(st.none(), st.integers(0, 8).map(lambda n: n / 8), st.just(0.1)),
    st.sampled_from([None, "bolt", "nut"]),
)


@st.composite
def tables(draw: Any) -> Rows:
    frame_no, mono_us = draw(st.integers(0, 9)), draw(st.sampled_from([0, 999_999, 1_000_000, 2_500_000]))
    rows = []
    for frames, us, *values in draw(st.lists(STEP, min_size=1, max_size=25)):
        rows.append([frame_no, 1_700_000_000_000_000 + mono_us, mono_us, *values])
        frame_no, mono_us = frame_no + frames, mono_us + us * frames
    return rows


def by_definition(window: Window, rows: Rows) -> Rows:
    numbers = [window.position(row) // window.length for row in rows]
    found = []
    for number in sorted(set(numbers)):
        inside = [row for row, its in zip(rows, numbers) if number - window.panes < its <= number]
        from_start = (number - window.panes + 1) * window.length >= window.position(rows[0])
        own = [*inside[-1][:3], number, inside[0][0], len(inside), from_start and number != numbers[-1]]
        found.append([*own, *aggregates(inside)])
    return found


def aggregates(inside: Rows) -> list[Any]:
    scores = np.array([row[SCORE] for row in inside if row[SCORE] is not None], np.float32).astype(np.float64)
    last, labels = inside[-1][SCORE], [row[LABEL] for row in inside]
    some = [float(make(scores)) if len(scores) else None for make in (np.mean, np.std, np.min, np.max)]
    newest = None if last is None else float(np.float32(last))
    p90 = float(np.quantile(scores, 0.9)) if len(scores) else None
    found = [len(scores), sum(row[COUNT] for row in inside), *some, newest, labels.count("bolt") / len(inside), p90]
    return [*found, per_second(inside), slope(inside)]


def per_second(inside: Rows) -> Any:
    seconds = (inside[-1][2] - inside[0][2]) / 1e6
    return sum(row[COUNT] for row in inside[1:]) / seconds if seconds > 0 else None


def slope(inside: Rows) -> Any:
    there = [((row[2] - inside[0][2]) / 1e6, float(np.float32(row[SCORE]))) for row in inside if row[SCORE] is not None]
    if len(there) < 2:
        return None
    at, score = np.array(there).T
    apart = at - at.mean()
    return pytest.approx(apart @ (score - score.mean()) / (apart @ apart), rel=1e-6, abs=1e-9)  # of rows a microsecond apart


def near(rows: Rows) -> Any:
    return [[pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value for value in row] for row in rows]


@given(WINDOWS, tables())
def test_windows_are_what_the_definition_says(window: Window, rows: Rows) -> None:
    assert windows_of(window, rows) == near(by_definition(window, rows))


@given(WINDOWS, tables())
def test_looking_at_the_clock_between_frames_changes_nothing(window: Window, rows: Rows) -> None:
    folding, found = Folding(window, rows[0]), []
    for row in rows:
        found += [folding.add(row), folding.until(Moment(row[0] + 1, 0, row[2] + 1))]
    found.append(folding.end())
    whole = by_definition(window, rows)
    seen = [row for row in found if row is not None]
    assert seen[:-1] == near(whole[: len(seen) - 1])
    assert seen[-1][:WHOLE] == whole[-1][:WHOLE], "the last window may have ended by the clock"


@given(WINDOWS, tables(), st.data())
def test_a_restart_inside_a_window_is_told_and_nothing_is_whole_that_is_not(window: Window, rows: Rows, data: Any) -> None:
    cut = data.draw(st.integers(1, len(rows)))
    uninterrupted = {row[3]: row for row in windows_of(window, rows)}
    lives = [windows_of(window, part) for part in (rows[:cut], rows[cut:])]
    whole = [row for life in lives for row in life if row[WHOLE]]
    assert whole == [uninterrupted[row[3]] for row in whole]
    assert len({row[3] for row in whole}) == len(whole)
    if window.panes == 1:
        frames = sum(row[WHOLE - 1] for life in lives for row in life)
        assert frames == len(rows), "each frame is in one window, or in one part of it"


def test_a_frame_at_the_border_belongs_to_the_later_window() -> None:
    rows = [[number, 0, at, 1, None, None] for number, at in enumerate([0, 999_999, 1_000_000, 1_999_999, 2_000_000])]
    found = windows_of(compiled(every_s=1), rows)
    assert [row[3:7] for row in found] == [[0, 0, 2, True], [1, 2, 2, True], [2, 4, 1, False]]


def test_a_window_without_an_answer_gives_no_row_and_the_gap_shows() -> None:
    rows = [[number, 0, at, 1, None, None] for number, at in ((0, 0), (90, 4_500_000), (100, 5_000_000))]
    found = windows_of(compiled(every_s=1), rows)
    assert [(row[3], row[4], row[0]) for row in found] == [(0, 0, 0), (4, 90, 90), (5, 100, 100)]


def test_the_spread_of_values_far_from_zero_is_theirs() -> None:
    columns = [*COLUMNS[:3], {"name": "level", "type": "f64"}]
    features = [{"name": "spread", "how": "std", "of": "level"}, {"name": "middle", "how": "mean", "of": "level"}]
    rows = [[number, 0, 500_000 * number, 1e9 + number % 2] for number in range(12)]
    for panes in (1, 3):
        window = windows.compile({"windows": [{"name": "w", "every_s": 2, "panes": panes, "features": features}]}, columns)[0]
        assert [row[-2:] for row in windows_of(window, rows)] == [[pytest.approx(0.5, abs=1e-6), 1e9 + 0.5]] * 3


def test_a_value_that_the_column_cannot_hold_is_not_hidden() -> None:
    features = [{"name": "greatest", "how": "max", "of": "score"}, {"name": "least", "how": "min", "of": "score"}]
    (window,) = windows.compile({"windows": [{"name": "w", "frames": 4, "features": features}]}, COLUMNS)
    rows = [[number, 0, 0, 1, score, None] for number, score in enumerate([1e39, 0.5, -1e39])]
    assert [row[-2:] for row in windows_of(window, rows)] == [[np.inf, -np.inf]]


def test_rows_out_of_order_are_a_bug() -> None:
    row = [7, 0, 0, 1, None, None]
    with pytest.raises(ValueError, match="each once"):
        windows_of(compiled(every_s=1), [row, row])
