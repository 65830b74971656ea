"""The share of ids that a candidate answers: right, sticky, and growing without a change of sides."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.inference.oip.canary import chosen

SHARES = st.floats(0, 1)
TEXTS = st.text()
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
IDS = 2000


@given(TEXTS.filter(bool) | st.just("\ud800"), DIGESTS, SHARES)
def test_an_id_always_goes_the_same_way(request_id: str, candidate: str, share: float) -> None:
    assert len({chosen(request_id, candidate, share) for _ in range(5)}) == 1


@given(TEXTS, DIGESTS, SHARES, SHARES)
def test_a_larger_share_keeps_whom_a_smaller_one_had(request_id: str, candidate: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert chosen(request_id, candidate, large) or not chosen(request_id, candidate, small)


@given(TEXTS, DIGESTS)
def test_none_is_none_and_all_is_all_that_have_an_id(request_id: str, candidate: str) -> None:
    assert not chosen(request_id, candidate, 0)
    assert chosen(request_id, candidate, 1) == bool(request_id)


@given(TEXTS, DIGESTS, st.floats(0.01, 0.99))
def test_the_share_is_the_share(prefix: str, candidate: str, share: float) -> None:
    """Within six standard deviations, however alike the ids are."""
    hits = sum(chosen(f"{prefix}{number}", candidate, share) for number in range(IDS))
    assert abs(hits - share * IDS) <= 6 * math.sqrt(IDS * share * (1 - share)) + 1


@given(DIGESTS, DIGESTS)
def test_candidates_draw_apart(one: str, other: str) -> None:
    both = sum(chosen(str(n), one, 0.5) and chosen(str(n), other, 0.5) for n in range(IDS))
    assert one == other or both < 0.35 * IDS
