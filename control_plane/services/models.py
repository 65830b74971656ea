"""Registering model versions and moving aliases.

Order of an alias's move: the registry first, then our transaction (event, release, build job) that says we have acted on it.
Dying between the two leaves a registry that differs from `aliases_seen`: the reconciler acts on that as on a move by others.
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.errors import error
from contracts.release import ModelRegistration, ModelVersion
from control_plane.adapters.blobs import BlobStore
from control_plane.services.models_port import CANDIDATE, ModelRegistry
from control_plane.services.releases_open import Building, open_release
from control_plane.services.unit_of_work import SYSTEM, UnitOfWork, Units
from control_plane.store import releases

MAX_DOCUMENT_BYTES = 256 * 1024  # processing.json, feature_schema.json, model.sig
MAX_ARRAYS_BYTES = 256 * 1024 * 1024
_LIMITS = {
    "model": MAX_ARRAYS_BYTES,
    "calibration": MAX_ARRAYS_BYTES,
    "held_out": MAX_ARRAYS_BYTES,
    "signature": MAX_DOCUMENT_BYTES,
    "processing": MAX_DOCUMENT_BYTES,
    "feature_schema": MAX_DOCUMENT_BYTES,
}


@dataclass(frozen=True)
class Models:
    """The use cases around registered models. Calls block."""

    registry: ModelRegistry
    units: Units
    blobs: BlobStore
    building: Building

    def register(self, name: str, registration: ModelRegistration, actor: str) -> ModelVersion:
        """The new version, or the one that the same content got before.

        Raises API_INVALID when a file was not uploaded or has an impossible size.
        """
        self._check_files(registration)
        version = self.registry.register(name, registration)
        with self.units.write() as work:
            if not releases.was_registered(work.session, version.id):
                work.event("model_registered", version.id, actor, run=version.run, data=registration.data_digest)
        return version

    def _check_files(self, registration: ModelRegistration) -> None:
        for field, limit_bytes in _LIMITS.items():
            digest = getattr(registration, field)
            if not self.blobs.has(digest):
                raise error("API_INVALID", field, f"blob {digest} was not uploaded")
            if not 0 < self.blobs.size(digest) <= limit_bytes:
                raise error("API_INVALID", field, f"{self.blobs.size(digest)} bytes, allowed are 1 to {limit_bytes}")

    def move_alias(self, name: str, alias: str, version: int, actor: str) -> ModelVersion:
        """Point `alias` at `version`; moving `candidate` opens a release and its build. Moving it again to where it is
        changes nothing, except that a candidate whose last build failed is built anew.

        Raises API_NOT_FOUND, BUILD_NO_PROFILE.
        """
        found = self.registry.version(name, version)
        if alias == CANDIDATE:
            self.building.require_profiles(self.units)  # before anything moves
        self.registry.set_alias(name, alias, version)
        with self.units.write() as work:
            self.see_alias(work, found, alias, actor)
            if alias == CANDIDATE:
                open_release(work, self.building, found, actor)
        return self.registry.version(name, version)

    def see_alias(self, work: UnitOfWork, version: ModelVersion, alias: str, actor: str = SYSTEM) -> None:
        """Write down, with the event, that `alias` names `version` now; nothing when that was known."""
        previous = releases.alias_seen(work.session, version.name, alias)
        if previous == version.version:
            return
        releases.see_alias(work.session, version.name, alias, version.version)
        work.event("alias_moved", version.id, actor, alias=alias, version=version.version, previous=previous)
        if alias == CANDIDATE:
            open_release(work, self.building, version, actor)

    def reconcile(self) -> None:
        """Act on every alias that differs from what we have seen: somebody moved it in MLflow, or we died half-way."""
        with self.units.read() as session:
            seen = releases.aliases_seen(session)
        for name in self.registry.names():
            for alias, number in self.registry.aliases(name).items():
                if seen.get((name, alias)) != number:
                    version = self.registry.version(name, number)
                    with self.units.write() as work:
                        self.see_alias(work, version, alias)
