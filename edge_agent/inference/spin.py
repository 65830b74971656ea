"""A short look before a wait: it saves a wake-up where what is waited for comes within microseconds. Clean for Python 3.8."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_IN_VAIN = 6


class Spin:
    """Looks for at most `limit_us`, and only where that pays: after n looks in vain the next 2^n - 1 waits (at most 63) block at once.

    A look keeps a core from whoever is to answer, and a large model never answers in time.
    """

    def __init__(
        self, limit_us: int, monotonic_ns: Callable[[], int] = time.monotonic_ns, between: Callable[[], object] | None = None
    ) -> None:
        """0: never look. `between`: done after each look in vain."""
        self._limit_ns, self._monotonic_ns, self._between = limit_us * 1000, monotonic_ns, between
        self._in_vain = self._to_block = 0

    @property
    def looks(self) -> bool:
        return self._limit_ns > 0

    def __call__(self, came: Callable[[], bool]) -> bool:
        """Whether it came while we looked."""
        if not self._limit_ns:
            return False
        if self._to_block:
            self._to_block -= 1
            return False
        until_ns = self._monotonic_ns() + self._limit_ns
        while not came():
            if self._monotonic_ns() >= until_ns:
                self._in_vain = min(self._in_vain + 1, MAX_IN_VAIN)
                self._to_block = (1 << self._in_vain) - 1
                return False
            if self._between is not None:
                self._between()
        self._in_vain = 0
        return True
