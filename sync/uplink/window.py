"""What is in flight, and when silence is long enough to go back. PURE: time and randomness come in as arguments.

Go-back-N: records are sent once, in order, within the credit; nothing but a signed ack moves on. When no ack makes progress
before the deadline, everything after the watermark is sent again, and the next deadline is twice as far, up to a limit.
A broker that says "nobody listens" stops the sending until that deadline, or until an ack shows that somebody does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Delays:
    """Each delay is jittered down to half, so that a fleet does not speak in step."""

    first_s: float
    limit_s: float

    def after(self, failures: int, random: Callable[[], float]) -> float:
        return min(self.limit_s, self.first_s * 2.0 ** min(failures, 32)) * (0.5 + random() / 2)


@dataclass(frozen=True)
class _InFlight:
    last_seq: int
    size: int


class SendWindow:
    def __init__(self, delays: Delays, random: Callable[[], float]) -> None:
        self._delays, self._random = delays, random
        self._in_flight: dict[str, deque[_InFlight]] = {}
        self._silences = 0
        self._deadline: float | None = None
        self._held = False

    @property
    def in_flight_bytes(self) -> int:
        return sum(each.size for records in self._in_flight.values() for each in records)

    @property
    def held(self) -> bool:
        """Nothing may be sent before `expire` or a sign of life."""
        return self._held

    def cursor(self, stream: str, watermark: int) -> int:
        """The last seq that was sent in this turn; what follows it goes next."""
        records = self._in_flight.get(stream)
        return records[-1].last_seq if records else watermark

    def sent(self, stream: str, last_seq: int, size: int, now: float) -> None:
        self._in_flight.setdefault(stream, deque()).append(_InFlight(last_seq, size))
        if self._deadline is None:
            self._set_deadline(now)

    def refused(self, now: float) -> None:
        """The broker did not pass a record on: wait for the deadline."""
        self._held = True
        if self._deadline is None:
            self._set_deadline(now)

    def acked(self, watermarks: Mapping[str, int], now: float) -> None:
        """A signed ack came. Progress takes the silence off; when sending was held, all of it goes again at once."""
        if self._held:
            self.reset()
            return
        if self._forget(watermarks):
            self._silences = 0
            self._deadline = None
            if self._in_flight:
                self._set_deadline(now)

    def expire(self, now: float) -> bool:
        """True when the deadline has passed: then nothing is in flight any more and the next deadline will be later."""
        if self._deadline is None or now < self._deadline:
            return False
        silences = self._silences + 1
        self.reset()
        self._silences = silences
        return True

    def reset(self) -> None:
        """A new connection or a sign of life: begin again after the watermarks."""
        self._in_flight.clear()
        self._silences, self._deadline, self._held = 0, None, False

    def seconds_left(self, now: float) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - now)

    def _set_deadline(self, now: float) -> None:
        self._deadline = now + self._delays.after(self._silences, self._random)

    def _forget(self, watermarks: Mapping[str, int]) -> bool:
        before = sum(map(len, self._in_flight.values()))
        for stream, records in list(self._in_flight.items()):
            while records and records[0].last_seq <= watermarks.get(stream, 0):
                records.popleft()
            if not records:
                del self._in_flight[stream]
        return sum(map(len, self._in_flight.values())) < before
