"""The director's answers, kept in memory: a poll that finds nothing new costs no database read.

Anything else is answered as the database has it: a device that goes from one replica to another must not be shown a version
older than one it has seen, which it would take for an attack. An answer is dropped when its desired row changes (at once in
this process, within a second when another replica wrote it) and renewed when half its life is over, by raising the row's
director version.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from contracts.errors import error
from control_plane.adapters.director import Desired, Director, DirectorFiles
from control_plane.services.unit_of_work import Units
from control_plane.store import desired
from control_plane.store.base import Session
from control_plane.store.desired import DesiredRow
from program.clock import Clock

MAX_CACHED = 50_000  # about 4 KB each


class DesiredState:
    """Called from the event loop (`cached`) and from worker threads (`prepare`, `dropped`); dict operations are atomic."""

    def __init__(self, units: Units, director: Director, clock: Clock) -> None:
        self._units, self._director, self._clock = units, director, clock
        self._cached: OrderedDict[str, DirectorFiles] = OrderedDict()
        self._drops = 0  # counts droppings, so that a row read before one is not cached after it
        self._revision = 0

    def cached(self, device: str) -> DirectorFiles | None:
        """The answer in memory, None when there is none or half its life is over."""
        found = self._cached.get(device)
        return found if found is not None and self._clock.utc() < found.half_life_utc else None

    def prepare(self, device: str) -> DirectorFiles:
        """The answer to the row as it is in the database now. Blocks. Raises API_NOT_FOUND when nothing is desired, not even nothing."""
        drops = self._drops
        with self._units.read() as session:
            row = _must(session, device)
        known = self.cached(device)
        if known is not None and known.version == row.director_version:
            return known
        files = self._director.files(_value(row))
        if self._clock.utc() >= files.half_life_utc:
            with self._units.write() as work:
                desired.reissue(work.session, device, row.director_version, work.now)
                files = self._director.files(_value(_must(work.session, device)))
        if drops == self._drops:
            self._cached[device] = files
            while len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)
        return files

    def refresh(self, session: Session) -> None:
        """Drop what changed since the last call."""
        revision = desired.revision(session)
        if revision != self._revision:
            self._drop(desired.changed_since(session, self._revision))
            self._revision = revision

    def _drop(self, devices: Iterable[str]) -> None:
        self._drops += 1
        for device in devices:
            self._cached.pop(device, None)


def _must(session: Session, device: str) -> DesiredRow:
    row = desired.find(session, device)
    if row is None:
        raise error("API_NOT_FOUND", device, "no desired state")
    return row


def _value(row: DesiredRow) -> Desired:
    return Desired(row.device, row.generation, row.director_version, row.issued_utc, row.order)
