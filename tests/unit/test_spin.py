"""A look before a wait: how long it looks, and that it leaves off where it never pays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.inference.spin import Spin

LIMIT_US = 50


class World:
    """Time passes 1 us at each look at the clock; what is waited for comes `after_us`."""

    def __init__(self) -> None:
        self.now_ns = self.looks = self.after_ns = 0
        self.spin = Spin(LIMIT_US, self._clock)

    def _clock(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def wait(self, after_us: int) -> bool:
        """Whether a wait for this was spared."""
        self.after_ns = self.now_ns + after_us * 1000
        came = self.spin(self._came)
        assert not came or self.now_ns >= self.after_ns
        return came

    def _came(self) -> bool:
        self.looks += 1
        return self.now_ns >= self.after_ns


def test_what_comes_in_time_is_seen_and_what_does_not_costs_the_limit() -> None:
    world = World()
    assert world.wait(LIMIT_US - 2)
    began_ns = world.now_ns
    assert not world.wait(LIMIT_US * 10)
    assert world.now_ns - began_ns <= (LIMIT_US + 1) * 1000


def test_who_is_waited_for_is_let_run_between_two_looks() -> None:
    world = World()
    yields: list[int] = []
    world.spin = Spin(LIMIT_US, world._clock, lambda: yields.append(world.looks))
    assert world.wait(LIMIT_US - 2)
    assert yields == list(range(1, world.looks))


def test_without_a_limit_nothing_is_looked_at() -> None:
    world = World()
    world.spin = Spin(0, world._clock)
    assert not world.wait(0)
    assert (world.looks, world.now_ns) == (0, 0)


def test_what_never_comes_in_time_is_looked_for_in_one_wait_of_64() -> None:
    world, looked = World(), 0
    for _ in range(640):
        before = world.looks
        assert not world.wait(1000)
        looked += world.looks > before
    assert looked <= 6 + 640 // 64


def test_after_one_that_pays_each_wait_looks_again() -> None:
    world = World()
    for _ in range(200):
        world.wait(1000)
    waits = next(number for number in range(65) if world.wait(1))
    assert waits <= 63
    assert all(world.wait(1) for _ in range(20))


@given(st.lists(st.integers(0, 2 * LIMIT_US), max_size=300))
def test_no_more_than_a_limit_is_lost_for_each_look_in_vain(arrivals_us: list[int]) -> None:
    world = World()
    for after_us in arrivals_us:
        began_ns = world.now_ns
        if not world.wait(after_us):
            assert world.now_ns - began_ns in (0, (LIMIT_US + 1) * 1000)
