"""From facts to the page: scales and labels, areas and curves, gates against their limits, and a page that needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from contracts.operator import GateView
from deploy.local.picture import elements, gates, lanes, row_lanes
from deploy.local.picture.assembly import facts
from deploy.local.picture.elements import TimeScale, element, placed, shortened, width_of
from deploy.local.picture.facts import Answers, Facts, JudgedGate, Rows
from deploy.local.picture.page import headline, page
from deploy.local.picture.style import STYLE
from tests.simulators.recorded_run import DIGESTS, recorded


@pytest.fixture(scope="module")
def seen() -> Facts:
    return facts(recorded())


# -- where things go


def test_time_lies_between_the_edges() -> None:
    scale = TimeScale(100.0, 200.0, 10.0, 110.0)
    assert [scale.x(at_s) for at_s in (100, 150, 200, 0, 999)] == [10, 60, 110, 10, 110]
    assert scale.width(100, 125) == 25


@pytest.mark.parametrize(("span_s", "step"), [(10, 1), (280, 30), (3600, 300), (86_400 * 9, 86_400)])
def test_ticks_are_round_and_far_enough_apart(span_s: float, step: int) -> None:
    ticks = TimeScale(0.0, span_s, 168.0, 1116.0).ticks()
    assert ticks[:2] == [0, step]
    assert len(ticks) <= 16


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (312, "5:12"), (3723, "1:02:03")])
def test_an_offset_reads_as_a_clock(seconds: float, text: str) -> None:
    assert elements.offset(seconds) == text


def test_labels_share_a_row_only_where_they_do_not_touch() -> None:
    assert [spot.row for spot in placed([(0, 50), (200, 50), (400, 50)], 0, 1000)] == [0, 0, 0]
    crowd = placed([(100.0 + 12 * n, 80) for n in range(6)], 0, 1000)
    assert [(spot.row, spot.to_the_left) for spot in crowd[:2]] == [(0, True), (0, False)]
    assert max(spot.row for spot in crowd) < 5
    boxes: dict[int, list[tuple[float, float]]] = {}
    for number, spot in enumerate(crowd):
        x = 100.0 + 12 * number
        boxes.setdefault(spot.row, []).append((x - 80, x) if spot.to_the_left else (x, x + 80))
    for row in boxes.values():
        assert all(one[1] <= other[0] for one, other in zip(sorted(row), sorted(row)[1:], strict=False))


def test_a_label_at_the_right_edge_stands_to_the_left_of_its_mark() -> None:
    assert placed([(980, 80)], 0, 1000)[0].to_the_left
    assert not placed([(10, 80)], 0, 1000)[0].to_the_left


def test_a_text_is_cut_where_it_does_not_fit() -> None:
    assert shortened("short", 200) == "short"
    cut = shortened("a rather long text", 60)
    assert cut.endswith("…")
    assert width_of(cut) <= 60
    assert shortened("a rather long text", 10) == ""


# -- lanes


def test_areas_of_two_bundles_in_one_second_are_stacked_and_a_pause_leaves_a_hole() -> None:
    answers = [Answers(0, "a", 20), Answers(1, "a", 5), Answers(1, "b", 15), Answers(3, "b", 20)]
    scale = TimeScale(0, 10, 0, 100)
    paths = [part.get("d", "") for part in lanes._areas(answers, lanes.Colours({"a": "v1", "b": "v2"}), scale, 1, 20)]
    assert [path.count("M") for path in paths] == [1, 2]
    low, full = lanes.LABEL_PX + lanes.AREA_PX, lanes.LABEL_PX
    assert f"V{low - lanes.AREA_PX / 4:.1f}H20.0" in paths[0]
    assert f"V{full:.1f}H20.0V{low - lanes.AREA_PX / 4:.1f}H10.0" in paths[1]


def test_a_spell_is_of_the_bundle_that_answered_most_and_outlasts_a_pause() -> None:
    answers = [Answers(0, "a", 20), Answers(1, "a", 4), Answers(1, "b", 16), Answers(5, "b", 20), Answers(6, "a", 20)]
    assert lanes.spells(answers, 1) == [("a", 0, 1), ("b", 1, 6), ("a", 6, 7)]


def test_a_colour_is_the_model_versions_and_not_the_bundles() -> None:
    colours = lanes.Colours({"a": "v1", "b": "v1", "c": "v2"})
    assert [colours.class_of(digest) for digest in "abcx"] == ["c0", "c0", "c1", "cx"]


def test_rows_add_up_and_what_is_on_its_way_is_the_difference() -> None:
    rows = Rows(accepted=((0, 60), (1, 60), (2, 60)), committed=((1, 60), (4, 120)))
    assert row_lanes.cumulative(rows.accepted, 1) == [(1, 60), (2, 120), (3, 180)]
    assert row_lanes.waiting(rows, 1) == [(1, 60), (2, 60), (3, 120), (5, 0)]


# -- gates


def gate(metric: str, limit: float, value: float | None, verdict: str, reason: str = "", **bounds: float) -> GateView:
    seen = {"metric": metric, "limit": limit, "value": value, "verdict": verdict, "reason": reason, "samples": 150, **bounds}
    return GateView.model_validate(seen)


DISAGREES = gate("agreement", 0.1, 0.694, "failed", low=0.56, high=0.82, passes_at=0.85, fails_at=0.92)
AGREES = gate("agreement", 0.1, 0.95, "passed", low=0.87, high=0.99, passes_at=0.85, fails_at=0.92)
SLOW, FAST = gate("latency_p95_us", 20_000, 27_500, "failed"), gate("latency_p95_us", 20_000, 431, "passed")


def test_the_limit_of_agreement_is_what_it_is_held_against_and_not_its_margin() -> None:
    assert (gates.limit_of(DISAGREES), gates.limit_of(AGREES)) == (0.92, 0.85)
    assert gates.limit_of(FAST) == 20_000


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (DISAGREES, "agreement 69.4 % under 92 %"),
        (SLOW, "latency p95 27.5 ms over 20 ms"),
        (FAST, "latency p95 0.431 ms within 20 ms"),
        (gate("agreement", 0.1, None, "not_applicable", "no incumbent"), "agreement not applicable"),
    ],
)
def test_a_gate_says_value_and_limit(view: GateView, words: str) -> None:
    assert gates.in_words(JudgedGate(1, view)) == words


@pytest.mark.parametrize(("view", "passes"), [(DISAGREES, False), (AGREES, True), (SLOW, False), (FAST, True)])
def test_the_dot_lies_on_the_tinted_side_exactly_when_the_gate_passes(view: GateView, passes: bool) -> None:
    drawing = gates.strip(view)
    good = next(part for part in drawing if part.get("class") == "good")
    dot = next(part for part in drawing if part.get("class", "").startswith("value"))
    left, width, x = (float(part.get(name) or 0) for part, name in ((good, "x"), (good, "width"), (dot, "cx")))
    assert (left <= x <= left + width) is passes


def test_the_whisker_spans_the_bounds_and_runs_out_where_there_is_none() -> None:
    half_open = gate("latency_p95_vs_incumbent", 3.0, 19.4, "failed", low=9.7, passes_at=6.4, fails_at=7.0)
    whisker = next(part for part in gates.strip(half_open) if part.get("class", "").startswith("whisker"))
    dot = next(part for part in gates.strip(half_open) if part.get("class", "").startswith("value"))
    left, x, right = (float(part.get(name) or 0) for part, name in ((whisker, "x1"), (dot, "cx"), (whisker, "x2")))
    assert left - 6 == pytest.approx((x - 6) / 2, abs=0.1)
    assert right == gates.STRIP_WIDTH_PX - 6
    assert not [part for part in gates.strip(FAST) if part.get("class", "").startswith("whisker")]


# -- the page


def test_the_headline_counts_what_happened(seen: Facts) -> None:
    assert headline(seen) == "3 devices, 4 min 40 s: v1, v2 rolled out, v3 stopped twice; 6 kills, 2 absences, 11 refusals"


def test_the_page_is_one_file_without_script_or_foreign_address(seen: Facts) -> None:
    text = page(seen)
    assert text.startswith("<!doctype html>\n<html")
    assert "<script" not in text
    assert re.findall(r"\b(?:src|href)=|url\(|@import", text) == []
    assert "://" not in text
    assert "default-src 'none'" in text


def test_every_device_campaign_fault_and_total_is_on_it(seen: Facts) -> None:
    text = page(seen)
    words = (
        "agent-1",
        "agent-2",
        "agent-3",
        "first-model",
        "second-model",
        "shadow-model",
        "exposed-model",
        "16,260",
        "broker away 10.0 s",
    )
    assert [word for word in words if word not in text] == []
    assert [mark.text for mark in seen.marks if mark.text not in text] == []
    assert [digest for digest in DIGESTS.values() if digest[:8] not in text] == []


def test_what_comes_from_a_site_is_text_and_never_markup(seen: Facts) -> None:
    hostile = replace(seen.campaigns[0], name="<script>alert(1)</script>&\"'")
    text = page(replace(seen, campaigns=(hostile,)))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_list_tells_the_same_in_order_of_time(seen: Facts) -> None:
    times = re.findall(r"<tr><td>(\d+):(\d\d)</td>", page(seen))
    assert len(times) > 50
    assert sorted(times, key=lambda time: (int(time[0]), int(time[1]))) == times


def test_the_style_sheet_knows_every_colour_in_both_schemes() -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r"var\((--\w+)\)", STYLE))
    assert used <= set(re.findall(r"(--\w+):", light))
    assert used - set(re.findall(r"(--\w+):", dark)) <= {"--vx"}


def test_an_element_keeps_the_order_of_text_and_parts() -> None:
    made = element("p", "a ", element("b", "c"), " d", class_="x", stroke_width=1.0)
    assert ElementTree.tostring(made, encoding="unicode") == '<p class="x" stroke-width="1">a <b>c</b> d</p>'
