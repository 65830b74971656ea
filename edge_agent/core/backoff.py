"""Delays between attempts, with full jitter. Returns numbers and waits nowhere; the caller hands in the random share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    base_s: float = 0.5
    cap_s: float = 60.0

    def delay_s(self, attempt: int, share: float, retry_after_s: float | None = None) -> float:
        """`attempt` counts from 1; `share` is uniform in [0, 1). A server's retry-after wins over our own number."""
        if retry_after_s is not None:
            return retry_after_s
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 32))
        return ceiling * (0.1 + 0.9 * share)  # never zero: a refused connection must not spin


def jittered_s(interval_s: float, share: float) -> float:
    """The interval, spread by a tenth to either side, so that a fleet does not beat in time."""
    return interval_s * (0.9 + 0.2 * share)
