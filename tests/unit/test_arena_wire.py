"""The arena's layout."""

from __future__ import annotations

import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.inference import wire
from edge_agent.inference.wire import Geometry

GEOMETRIES = st.builds(
    Geometry.of, st.integers(1, 3 * wire.PAGE_BYTES), st.integers(1, 3 * wire.PAGE_BYTES), st.integers(1, 3), st.integers(1, 4)
)


@given(GEOMETRIES)
def test_areas_are_aligned_and_never_overlap(geometry: Geometry) -> None:
    areas = [(0, wire.PAGE_BYTES)]
    areas += [(geometry.header(index), 64) for index in range(geometry.cells)]
    for index in range(geometry.cells):
        areas += [(geometry.input(index), geometry.input_bytes), (geometry.output(index), geometry.output_bytes)]
    assert all(start % wire.PAGE_BYTES == 0 for start, _ in areas[1 + geometry.cells :])
    assert all(start + size <= after for (start, size), (after, _) in zip(areas, areas[1:]))  # noqa: RUF007  no pairwise in 3.8
    assert sum(areas[-1]) <= geometry.total_bytes


def test_more_cells_than_state_bytes_are_refused() -> None:
    assert Geometry.of(8, 8, 1, wire.MAX_CELLS).cells == wire.MAX_CELLS
    with pytest.raises(ValueError, match="at most"):
        Geometry.of(8, 8, 1, wire.MAX_CELLS + 1)


@given(GEOMETRIES)
def test_geometry_survives_header_and_dict(geometry: Geometry) -> None:
    header = bytearray(wire.PAGE_BYTES)
    wire.write_geometry(header, geometry)
    assert wire.read_geometry(header) == geometry
    assert Geometry.from_dict({**geometry.to_dict(), "later": 1}) == geometry


@given(GEOMETRIES)
def test_seats_divide_the_cells(geometry: Geometry) -> None:
    cells = [index for seat in range(geometry.seats) for index in geometry.seat(seat)]
    assert cells == list(range(geometry.cells))
    assert all(index in geometry.seat(geometry.seat_of(index)) for index in cells)


def test_other_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="not an arena"):
        wire.read_geometry(bytearray(wire.PAGE_BYTES))


def test_requests_and_results_do_not_touch_each_other() -> None:
    cell = bytearray(64)
    wire.write_request(cell, 0, wire.Priority.LOW, 7, 100, 10)
    wire.write_result(cell, wire.RESULT_OFFSET, wire.Status.NOT_FINITE, 20, 30, 40)
    assert wire.read_header(cell, 0) == (wire.Priority.LOW, 7, 100, 10, wire.Status.NOT_FINITE, 20, 30, 40)
    wire.cancel(cell, 0)
    assert wire.read_header(cell, 0) == (wire.Priority.LOW, 7, 0, 10, wire.Status.NOT_FINITE, 20, 30, 40)
    assert wire.deadline(cell, 0) == 0


@given(st.lists(st.sampled_from(list(wire.CellState)), min_size=1, max_size=70), st.sampled_from(list(wire.CellState)))
def test_states_are_counted_and_found(states: list[wire.CellState], wanted: wire.CellState) -> None:
    page = bytearray(wire.PAGE_BYTES)
    for index, state in enumerate(states):
        wire.set_state(page, index, state)
    assert [wire.state(page, index) for index in range(len(states))] == states
    assert wire.count(page, len(states), wanted) == states.count(wanted)
    assert wire.find(page, len(states), wanted) == [index for index, state in enumerate(states) if state == wanted]


@pytest.mark.parametrize(("limit", "high", "low"), [(1, 1, 1), (4, 4, 2), (5, 5, 3)])
def test_low_priority_leaves_half_of_the_queue(limit: int, high: int, low: int) -> None:
    assert (wire.queue_bound(limit, wire.Priority.HIGH), wire.queue_bound(limit, wire.Priority.LOW)) == (high, low)


def test_words_do_not_touch_geometry_or_each_other() -> None:
    header = bytearray(wire.PAGE_BYTES)
    geometry = Geometry.of(10, 10, 1, 1)
    wire.write_geometry(header, geometry)
    for which in wire.Word:
        wire.set_word(header, which, 1000 + which)
    assert [wire.word(header, which) for which in wire.Word] == [1000 + which for which in wire.Word]
    wire.beat(header, 7, 8)
    assert [wire.word(header, which) for which in wire.Word] == [1000, 1001, 7, 8, 1004, 1005]
    assert wire.read_geometry(header) == geometry


def test_the_fence_for_arm_is_a_call_that_this_kernel_knows() -> None:
    assert platform.machine() in ("x86_64", "aarch64")
    assert wire.membarrier() == 0
