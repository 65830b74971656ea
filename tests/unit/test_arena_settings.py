"""Which model a client means, and what the agent's configuration makes of its profile."""

from __future__ import annotations

import pytest

from contracts.errors import SkerryError
from edge_agent.agent import host_settings
from edge_agent.config import InferenceConfig
from edge_agent.inference.lease import which

OLD, NEW, BELT = "a" * 64, "b" * 64, "c" * 64
NAMES = {OLD: "digits", NEW: "digits", BELT: "belt"}


@pytest.mark.parametrize(
    ("model", "live", "digest"),
    [("", OLD, OLD), ("digits", OLD, OLD), ("digits", NEW, NEW), (NEW, OLD, NEW), ("belt", OLD, BELT), ("belt", "", BELT)],
)
def test_a_name_means_the_live_version_and_a_digest_itself(model: str, live: str, digest: str) -> None:
    assert which(NAMES, model, live) == digest


@pytest.mark.parametrize(("model", "live"), [("", ""), ("other", OLD), ("digits", BELT), ("digits", ""), ("e" * 64, OLD), ("", "e" * 64)])
def test_what_is_not_loaded_or_not_one_is_refused(model: str, live: str) -> None:
    with pytest.raises(SkerryError) as refused:
        which(NAMES, model, live)
    assert refused.value.code == "ARENA_MODEL"


def test_a_boards_own_spin_wins_over_its_profiles() -> None:
    assert host_settings(InferenceConfig(), 20).spin_us == 20
    assert host_settings(InferenceConfig(spin_us=0), 20).spin_us == 0
    settings = host_settings(InferenceConfig(seats=3, cells_per_seat=2, queue_limit=5), 0)
    assert (settings.seats, settings.cells_per_seat, settings.queue_limit, settings.batch_delay_us) == (3, 2, 5, None)
