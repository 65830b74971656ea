"""What was refused and who tried it, for the event log.

A refused request is rolled back and would leave no trace, so it is told in a transaction of its own: the first of its kind at once,
then at most once a minute with the count, because whoever is refused may try as often as he likes.
"""

from __future__ import annotations

import threading

from contracts.errors import SkerryError
from control_plane.services.unit_of_work import SYSTEM, Units
from program.clock import Clock
from program.tally import Tally

PAUSE_S = 60.0
_Key = tuple[str, str, str, str]  # event, subject, actor, code


class Refusals:
    """Called from any thread."""

    def __init__(self, units: Units, clock: Clock) -> None:
        self._units, self._clock, self._lock = units, clock, threading.Lock()
        self._tally: Tally[_Key] = Tally(PAUSE_S, other=("refused", "", SYSTEM, "API_FORBIDDEN"))

    def note(self, event: str, subject: str, actor: str, refused: SkerryError) -> None:
        with self._lock:
            self._tally.count((event, subject, actor, refused.code), str(refused)[:500])
        self.flush()

    def flush(self) -> None:
        """Write what is due, in one transaction."""
        with self._lock:
            due = self._tally.due(self._clock.mono())
        if due:
            with self._units.write() as work:
                for told in due:
                    event, subject, actor, code = told.key
                    work.event(event, subject, actor, code=code, detail=told.detail, count=told.count)
