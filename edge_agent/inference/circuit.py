"""When a worker that died may start again, and when it is given up. Pure: time is handed in."""

from __future__ import annotations

from collections import deque

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
DEATHS_TO_OPEN = 5
WINDOW_S = 600.0


class Circuit:
    """Counts unasked deaths. The n-th one within the window waits FIRST_DELAY_S * 2^(n-1); the fifth opens the circuit for good."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()
        self.open = False

    def died(self, now_s: float) -> float | None:
        """Note a death at `now_s` (monotonic). Seconds to wait before the next start, or None: do not start again."""
        self._deaths.append(now_s)
        while self._deaths[0] <= now_s - WINDOW_S:
            self._deaths.popleft()
        if len(self._deaths) >= DEATHS_TO_OPEN:
            self.open = True
        return None if self.open else backoff_s(len(self._deaths))


def backoff_s(failures: int) -> float:
    """Delay before the next start after `failures` (>= 1) deaths: 0.2, 0.4, ... 30 s."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures - 1, 16)))
