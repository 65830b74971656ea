"""What thirty looks at a gate do to its verdicts: the figures of docs/explanation/gates.md, on fewer runs."""

from __future__ import annotations

import pytest

from control_plane.domain.agreement import Expected
from tests.benchmarks.gates import AGREEMENT, DROP, FALSE_ALARMS, FOUND, agreement_verdict, drawn, latency_verdict, one_look, verdicts

RUNS = 4_000
KNOWN = agreement_verdict(Expected(AGREEMENT, AGREEMENT))


def test_a_drop_of_three_points_is_found_within_2100_pairs() -> None:
    said = verdicts(drawn(AGREEMENT - DROP, RUNS), KNOWN)
    assert said["failed"] >= FOUND
    assert said["passed"] <= 1 - FOUND


def test_thirty_looks_raise_no_more_alarms_than_one() -> None:
    said = verdicts(drawn(AGREEMENT, RUNS), KNOWN)
    assert said["failed"] <= FALSE_ALARMS
    assert said["passed"] >= FOUND


def test_a_test_that_is_right_for_one_look_is_not_right_for_thirty() -> None:
    """What the bounds are for; and that these runs would show it."""
    assert verdicts(drawn(AGREEMENT, RUNS), one_look)["failed"] > 5 * FALSE_ALARMS


@pytest.mark.parametrize(("slow", "verdict", "at_least", "at_most"), [
    (0.08, "failed", FOUND, 1.0), (0.05, "failed", 0.0, FALSE_ALARMS), (0.05, "passed", 0.0, 1 - FOUND), (0.025, "passed", FOUND, 1.0),
])  # fmt: skip
def test_a_p95_is_held_against_its_limit(slow: float, verdict: str, at_least: float, at_most: float) -> None:
    assert at_least <= verdicts(drawn(slow, RUNS), latency_verdict)[verdict] <= at_most
