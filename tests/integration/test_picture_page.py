"""The page in a real browser: it is complete without a script or another host, fits a screen, and its words can be read."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from deploy.local.picture.assembly import facts
from deploy.local.picture.page import page
from tests.integration.chromium_process import load, measured
from tests.simulators.recorded_run import recorded

WIDTH_PX, SMALLEST_PX = 1280, 11.0


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "picture.html"
    file.write_text(page(facts(recorded())))
    return file


@pytest.fixture(scope="module")
def seen(file: Path) -> dict[str, Any]:
    return measured(file, WIDTH_PX)


def test_a_browser_shows_every_lane_and_has_nothing_to_complain_of(file: Path) -> None:
    loaded = load(file)
    assert loaded.console == ()
    for lane in ("agent-1", "agent-2", "agent-3", "v3 exposed-model", "Faults", "Rows", "Rows on their way"):
        assert f">{lane}</text>" in loaded.dom, lane


def test_nothing_is_requested(seen: dict[str, Any]) -> None:
    assert seen["requested"] == []


def test_it_fits_a_screen_without_scrolling_sideways(seen: dict[str, Any]) -> None:
    assert seen["width"] == WIDTH_PX
    assert seen["scrolls"] <= WIDTH_PX


def test_no_text_is_smaller_than_can_be_read(seen: dict[str, Any]) -> None:
    assert len(seen["texts"]) > 50
    assert [text["text"] for text in seen["texts"] if text["px"] < SMALLEST_PX - 0.01] == []


def test_no_two_texts_lie_on_each_other_and_none_is_cut_off(seen: dict[str, Any]) -> None:
    texts = seen["texts"]
    assert [(one["text"], other["text"]) for one, other in combinations(texts, 2) if _touch(one, other)] == []
    assert [text["text"] for text in texts if text["left"] < 0 or text["right"] > WIDTH_PX] == []


def _touch(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """By more than a pixel; a line's own box is higher than its letters, so neighbouring lines may share two."""
    wide = min(one["right"], other["right"]) - max(one["left"], other["left"])
    high = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return bool(wide > 1 and high > 2)


def test_the_look_would_see_a_request_and_an_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<!doctype html><title>x</title><img src="http://127.0.0.1:9/x.png"><script>throw Error("boom")</script>')
    assert [line for line in load(bad).console if "boom" in line]
    assert measured(bad)["requested"] == ["http://127.0.0.1:9/x.png"]
