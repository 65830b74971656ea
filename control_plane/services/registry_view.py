"""What this process remembers of the database: valid for one revision and at most one second.

Every request of a device is judged against it, so that a revocation takes effect within that second, also when another
replica wrote it; a commit in this process takes effect at once.
"""

from __future__ import annotations

import itertools
import threading

from contracts.errors import error
from control_plane.adapters.peer_certificate import Peer
from control_plane.services.desired_state import DesiredState
from control_plane.services.unit_of_work import Units
from control_plane.store import devices
from program.clock import Clock

VALID_S = 1.0
NEVER = (-1, float("-inf"))


class RegistryView:
    def __init__(self, units: Units, desired: DesiredState, clock: Clock) -> None:
        self._units, self._desired, self._clock = units, desired, clock
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)  # `+= 1` would lose one of two commits on two threads
        self._commits = 0  # seen in this process
        self._as_of = NEVER  # commits, and the time, before the read that our memory comes from
        self._revision = -1
        self._active: frozenset[str] = frozenset()
        self._revoked: frozenset[str] = frozenset()  # fingerprints
        units.on_commit(self.invalidate)

    def invalidate(self) -> None:
        """Something was committed in this process."""
        self._commits = next(self._numbers)

    def require_active(self, peer: Peer) -> None:
        """Raises API_FORBIDDEN unless `peer` is an active device with a certificate that is neither revoked nor expired."""
        if peer.kind != "device":
            raise error("API_FORBIDDEN", peer.id, "only devices")
        if self._stale():
            self._refresh()
        if peer.id not in self._active:
            self._as_of = NEVER  # it may just have been let in by another replica: nobody is sent away by memory
            self._refresh()
        if peer.id not in self._active:
            raise error("API_FORBIDDEN", peer.id, "the device is not active in the registry")
        if peer.fingerprint in self._revoked or peer.not_after <= self._clock.utc():
            raise error("API_FORBIDDEN", peer.id, "the certificate is revoked or expired")

    def _stale(self) -> bool:
        commits, read_mono = self._as_of
        return commits != self._commits or self._clock.mono() >= read_mono + VALID_S

    def _refresh(self) -> None:
        with self._lock:
            if not self._stale():  # another thread was faster
                return
            as_of = self._commits, self._clock.mono()  # before the read, and valid after it: a commit in between ends it again
            with self._units.read() as session:
                self._desired.refresh(session)
                revision = devices.registry_revision(session)
                if revision != self._revision:
                    self._active, self._revoked = devices.active_ids(session), devices.revoked_fingerprints(session)
                    self._revision = revision
            self._as_of = as_of
