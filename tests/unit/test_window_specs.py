"""Windows of a specification that comes with a bundle: what is refused, and what columns the others make."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.features import FRAME_COLUMNS, Column, FeatureSchema
from processing import windows
from processing.spec import SpecError

SCHEMA = FeatureSchema(
    family="belt",
    columns=(
        *FRAME_COLUMNS,
        Column(name="count", type="i32", min=0, max=16),
        Column(name="score", type="f32", nullable=True, min=0, max=1),
        Column(name="label", type="utf8", nullable=True),
        Column(name="good", type="bool"),
    ),
)
COLUMNS = [column.model_dump() for column in SCHEMA.columns]
FEATURE = {"name": "parts", "how": "sum", "of": "count"}
QUANTILE = {**FEATURE, "how": "quantile", "q": 0.5, "most": 100}
WINDOW = {"name": "w", "every_s": 10, "features": [FEATURE]}


def one(**changes: Any) -> Any:
    return [{name: value for name, value in {**WINDOW, **changes}.items() if value is not None}]


def of(**changes: Any) -> Any:
    return one(features=[{**FEATURE, **changes}])


@pytest.mark.parametrize(
    ("hostile", "says"),
    [
        ({}, "at most 8"),
        ([WINDOW] * 9, "at most 8"),
        ([WINDOW, WINDOW], "windows have different names"),
        (["w"], "an entry is an object"),
        (one(name=7), "an entry is an object"),
        (one(name="W w"), "small letters"),
        (one(name="x" * 33), "small letters"),
        # lengths
        (one(every_s=None), "'w' has one of every_s and frames"),
        (one(frames=10), "'w' has one of every_s and frames"),
        (one(every_s=0), "from 1 to 86400, not 0"),
        (one(every_s=-1), "from 1 to 86400"),
        (one(every_s=86_401), "from 1 to 86400"),
        (one(every_s=10**40), "from 1 to 86400"),
        (one(every_s=0.5), "every_s is a whole number"),
        (one(every_s=True), "every_s is a whole number"),
        (one(every_s=float("nan")), "every_s is a whole number"),
        (one(every_s=None, frames=1), "from 2 to 1000000"),
        (one(panes=0), "panes is a whole number from 1 to 60"),
        (one(panes=61), "panes is a whole number from 1 to 60"),
        (one(slide_s=5), "w: unknown field 'slide_s'"),
        # features
        (one(features=[]), "features is a list of 1 to 64"),
        (one(features=[FEATURE] * 65), "features is a list of 1 to 64"),
        (one(features=[FEATURE, FEATURE]), "w: columns have different names"),
        (of(name="whole"), "w: columns have different names"),
        (of(name="frame_no"), "w: columns have different names"),
        (of(how="median"), "parts: how is one of count, sum"),
        (of(how=["sum"]), "parts: how is one of count, sum"),
        (of(of="boxes"), "parts: of is one of frame_no"),
        (of(of="label"), "parts: column label is utf8"),
        (of(how="mean", of="good"), "parts: column good is bool"),
        (of(how="mean", of="event_utc"), "parts: column event_utc is utc_us"),
        (of(how="max", of="label"), "parts: column label is utf8"),
        (of(how="share", of="score", value=1), "parts: column score is f32"),
        (of(how="share", of="label"), "parts lacks 'value'"),
        (of(how="share", of="label", value=3), "parts: value is one of column label, which is utf8"),
        (of(how="share", of="count", value=True), "parts: value is one of column count"),
        (of(how="share", of="label", value="x" * 201), "parts: value is one of column label"),
        (of(value=3), "parts: unknown field 'value'"),
        (of(how="quantile", q=0.5), "parts lacks 'most'"),
        (of(how="quantile", most=100), "parts lacks 'q'"),
        (of(how="quantile", q=95, most=100), "parts: q is a number from 0 to 1, not 95"),
        (of(how="quantile", q=float("nan"), most=100), "parts: q is a number from 0 to 1"),
        (of(how="quantile", q=0.5, most=0), "parts: most is a whole number from 1 to 10000"),
        (of(how="quantile", q=0.5, most=10_001), "parts: most is a whole number from 1 to 10000"),
        (of(how="quantile", of="label", q=0.5, most=1), "parts: column label is utf8"),
        (one(every_s=None, frames=40, panes=3, features=[QUANTILE]), "parts: most is 100, of 120 frames"),
        (one(panes=60, features=[{**QUANTILE, "name": f"q{number}", "most": 10_000} for number in range(2)]), "at most 1000000 in all"),
        (of(how="per_second", of="good"), "parts: column good is bool"),
        (of(how="slope", of="event_utc"), "parts: column event_utc is utc_us"),
    ],
)
def test_a_hostile_window_is_refused_by_name(hostile: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says) as refused:
        windows.compile({"windows": hostile}, COLUMNS)
    assert len(str(refused.value)) < 500


def test_a_specification_without_windows_has_none() -> None:
    assert windows.compile({"pre": [], "post": []}, COLUMNS) == ()


@pytest.mark.parametrize(
    "hostile", [{"rows": "none"}, {"rows": 1}, {"rows": ["frames"]}, {"rows": "windows"}, {"rows": "windows", "windows": []}]
)
def test_what_leaves_is_said_in_one_of_two_ways(hostile: Any) -> None:
    with pytest.raises(SpecError, match="rows is `frames`, or `windows`"):
        windows.frames_leave(hostile)
    assert windows.frames_leave({}) is windows.frames_leave({"rows": "frames"}) is True
    assert windows.frames_leave({"rows": "windows", "windows": one()}) is False


def test_columns_of_a_window_keep_type_range_and_nulls_where_they_can() -> None:
    features = [
        FEATURE,
        {"name": "best", "how": "max", "of": "score"},
        {"name": "mean", "how": "mean", "of": "score"},
        {"name": "spread", "how": "std", "of": "count"},
        {"name": "last", "how": "last", "of": "label"},
        {"name": "bolts", "how": "share", "of": "label", "value": "bolt"},
        {"name": "median", "how": "quantile", "of": "count", "q": 0.5, "most": 500},
        {"name": "rate", "how": "per_second", "of": "count"},
        {"name": "drift", "how": "slope", "of": "score"},
    ]
    (window,) = windows.compile({"windows": one(features=features)}, COLUMNS)
    schema = SCHEMA.of_window(window.name, window.columns)
    assert schema.family == "belt__w"
    assert schema.columns == (
        *FRAME_COLUMNS,
        Column(name="window_no", type="i64", min=0),
        Column(name="first_frame_no", type="i64", min=0),
        Column(name="frames", type="i64", min=1),
        Column(name="whole", type="bool"),
        Column(name="parts", type="f64"),
        Column(name="best", type="f32", nullable=True, min=0, max=1),
        Column(name="mean", type="f64", nullable=True, min=0, max=1),
        Column(name="spread", type="f64", min=0),
        Column(name="last", type="utf8", nullable=True),
        Column(name="bolts", type="f64", min=0, max=1),
        Column(name="median", type="f64", nullable=True, min=0, max=16),
        Column(name="rate", type="f64", nullable=True),
        Column(name="drift", type="f64", nullable=True),
    )
