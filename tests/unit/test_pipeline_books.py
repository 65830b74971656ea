"""The agent's books of its pipeline, over deaths of either."""

from __future__ import annotations

from pathlib import Path

from edge_agent.pipeline.books import Books
from edge_agent.pipeline.counters import Count, Counters
from edge_agent.pipeline.windows import Window


def test_books_tell_once_what_no_window_told(tmp_path: Path) -> None:
    books = Books(tmp_path / "c")
    assert books.figures() == dict.fromkeys(("frames", "accepted_rows", "refused", "window_rows_refused", "kept", "pending"), 0)
    assert books.settle("PIPELINE_ENDED", Window(0.0), 1.0) is None, "not open yet"
    assert books.open(7)
    pipeline = Counters(books.descriptor)
    pipeline.add(Count.FRAMES, 5)
    pipeline.add(Count.KEPT)
    books.accepted(2)
    window = books.settle("PIPELINE_ENDED", Window(0.0), 1.0)
    assert window is not None
    assert (window["frames"], window["accepted_rows"], window["refusals"], window["pending"]) == (5, 2, {"PIPELINE_ENDED": 2}, 0)
    books.told(window)
    assert books.settle("PIPELINE_ENDED", Window(1.0), 2.0) is None
    assert books.refusals == {"PIPELINE_ENDED": 2}
    books.close()
    assert (books.figures()["frames"], books.figures()["refused"]) == (5, 2), "they can be asked for after the end"


def test_books_are_joined_by_the_ledger_that_they_belong_to(tmp_path: Path) -> None:
    first, next_, foreign = (Books(tmp_path / "c") for _ in range(3))
    assert first.open(10)
    Counters(first.descriptor).add(Count.FRAMES, 3)
    first.accepted(1)
    assert next_.open(12), "one more was durable when the agent was killed"
    assert (next_.figures()["accepted_rows"], next_.figures()["pending"]) == (2, 1)
    assert not foreign.open(4)
    assert (foreign.figures()["frames"], foreign.figures()["accepted_rows"]) == (0, 0)
    for books in (first, next_, foreign):
        books.close()
