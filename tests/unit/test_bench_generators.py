"""What the load generators print, read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.generators import Load, wrk_said
from tests.benchmarks.ping_pong import PingPong

WRK = """Running 2s test @ http://127.0.0.1:8000/v2
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   818.33us   97.43us   2.29ms   85.92%
  Latency Distribution
     50%    {p50}
     99%    1.25ms
  19690 requests in 2.00s, 6.52MB read
Requests/sec:   9841.81
"""


@pytest.mark.parametrize(("p50", "us"), [("803.00us", 803.0), ("1.20ms", 1200.0), ("1.01s", 1_010_000.0)])
def test_wrks_units_are_microseconds(p50: str, us: float) -> None:
    assert wrk_said(WRK.format(p50=p50)) == Load(9841.81, us)


def test_an_output_without_figures_is_no_figure() -> None:
    with pytest.raises(AssertionError, match="Requests/sec"):
        wrk_said("unable to connect")


def test_a_far_side_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    with PingPong(tmp_path) as floor, pytest.raises(AssertionError, match="has ended"):  # no slot lies there
        floor.call()
