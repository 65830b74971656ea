"""When each device was last heard of. The poll is the heartbeat: noted in memory, written in groups."""

from __future__ import annotations

from datetime import datetime

from contracts.errors import SkerryError
from control_plane.services.unit_of_work import Units
from control_plane.store import devices
from program.clock import Clock


class LastSeen:
    def __init__(self, units: Units, clock: Clock) -> None:
        self._units, self._clock = units, clock
        self._times: dict[str, datetime] = {}

    def note(self, device: str) -> None:
        self._times[device] = self._clock.utc()

    def of(self, device: str) -> datetime | None:
        """The last contact that is not written yet."""
        return self._times.get(device)

    def flush(self) -> None:
        """Write what was noted since the last call, in one transaction. What could not be written is kept for the next call."""
        noted, self._times = self._times, {}
        if not noted:
            return
        try:
            with self._units.write() as work:
                devices.seen(work.session, noted)
        except SkerryError:
            self._times = {**noted, **self._times}
            raise
