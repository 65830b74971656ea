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
    for index in range(geometry.cells):
        start = geometry.cell(index)
        areas += [
            (start, 64),
            (start + geometry.input_offset, geometry.input_bytes),
            (start + geometry.output_offset, geometry.output_bytes),
        ]
    assert all(start % wire.PAGE_BYTES == 0 for start, _ in areas)
    assert all(start + size <= after for (start, size), (after, _) in zip(areas, areas[1:]))  # noqa: RUF007  no pairwise in 3.8
    assert sum(areas[-1]) <= geometry.total_bytes


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
    wire.write_request(cell, 0, 7, 100, 10)
    wire.write_result(cell, 0, wire.Status.NOT_FINITE, (20, 30, 40))
    wire.set_state(cell, 0, wire.CellState.DONE)
    assert wire.read_cell(cell, 0) == (wire.CellState.DONE, wire.Status.NOT_FINITE, 7, 100, 10, 20, 30, 40)


def test_words_do_not_touch_geometry_or_each_other() -> None:
    header = bytearray(wire.PAGE_BYTES)
    geometry = Geometry.of(10, 10, 1, 1)
    wire.write_geometry(header, geometry)
    for which in wire.Word:
        wire.set_word(header, which, 1000 + which)
    assert [wire.word(header, which) for which in wire.Word] == [1000 + which for which in wire.Word]
    assert wire.read_geometry(header) == geometry


def test_the_fence_for_arm_is_a_call_that_this_kernel_knows() -> None:
    assert platform.machine() in ("x86_64", "aarch64")
    assert wire.membarrier() == 0
