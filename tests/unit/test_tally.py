"""Counting what an attacker may cause as often as he likes: heard at once, never a flood, nothing forgotten."""

from __future__ import annotations

from program.tally import Tally, Told


def test_the_first_is_due_at_once_and_the_rest_together_when_the_pause_is_over() -> None:
    tally: Tally[str] = Tally(60, other="other")
    tally.count("forged", "first")
    assert tally.due(0) == [Told("forged", 1, "first")]
    for number in range(1000):
        tally.count("forged", f"number {number}")
    assert tally.due(59.9) == []
    assert tally.due(60) == [Told("forged", 1000, "number 999")]
    assert tally.due(1e6) == []


def test_kinds_do_not_hide_each_other() -> None:
    tally: Tally[str] = Tally(60, other="other")
    tally.count("a", "")
    assert [told.key for told in tally.due(0)] == ["a"]
    tally.count("a", "")
    tally.count("b", "")
    assert [told.key for told in tally.due(1)] == ["b"]


def test_what_does_not_fit_is_counted_together() -> None:
    tally: Tally[str] = Tally(60, other="other", limit=3)
    for number in range(100):
        tally.count(str(number), "")
    told = {told.key: told.count for told in tally.due(0)}
    assert told == {"0": 1, "1": 1, "2": 1, "other": 97}


def test_what_did_not_get_through_is_due_again() -> None:
    tally: Tally[str] = Tally(60, other="other")
    tally.count("a", "first")
    for told in tally.due(0):
        tally.not_told(told)
    tally.count("a", "second")
    assert tally.due(1) == [Told("a", 2, "second")]


def test_old_kinds_make_room() -> None:
    tally: Tally[str] = Tally(60, other="other", limit=1)
    tally.count("a", "")
    tally.due(0)
    tally.due(60)
    tally.count("b", "")
    assert [told.key for told in tally.due(61)] == ["b"]
