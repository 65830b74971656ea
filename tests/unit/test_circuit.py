"""When a dead worker starts again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.inference.circuit import DEATHS_TO_OPEN, LONGEST_DELAY_S, WINDOW_S, Circuit, backoff_s


def test_delays_double_and_the_fifth_death_opens() -> None:
    circuit = Circuit()
    assert [circuit.died(float(second)) for second in range(5)] == [0.2, 0.4, 0.8, 1.6, None]
    assert circuit.open


def test_deaths_outside_the_window_are_forgotten() -> None:
    circuit = Circuit()
    for second in range(4):
        circuit.died(float(second))
    assert circuit.died(WINDOW_S + 3) == 0.2
    assert not circuit.open


@given(st.lists(st.floats(0, 2 * WINDOW_S), max_size=30))
def test_open_means_five_deaths_within_a_window_and_stays(gaps: list[float]) -> None:
    circuit, now, times, opened = Circuit(), 0.0, [], False
    for gap in gaps:
        now += gap
        times.append(now)
        recent = [time for time in times if time > now - WINDOW_S]
        opened = opened or len(recent) >= DEATHS_TO_OPEN
        assert (circuit.died(now) is None) is opened


def test_backoff_is_bounded() -> None:
    assert backoff_s(1) == 0.2
    assert backoff_s(100) == LONGEST_DELAY_S
