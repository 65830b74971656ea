"""Opening a release: the row, its number, and the job for the builder, in the transaction of whoever moved the alias."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.errors import error
from contracts.release import BuildJob, ModelVersion
from control_plane.services.releases_state import BUILDING, FAILED
from control_plane.services.unit_of_work import UnitOfWork, Units
from control_plane.store import devices, releases
from control_plane.store.base import Session
from control_plane.store.releases import BuildJobRow, ReleaseRow

INCUMBENT_RELEASES = 3  # how many releases back the builder measures expected agreement


@dataclass(frozen=True)
class Building:
    """For what to build: the configured profiles, or else those of the devices that there are."""

    profiles: tuple[str, ...]
    security_epoch: int

    def profiles_for(self, session: Session) -> tuple[str, ...]:
        return self.profiles or tuple(devices.profiles(session))

    def require_profiles(self, units: Units) -> None:
        with units.read() as session:
            if not self.profiles_for(session):
                raise error("BUILD_NO_PROFILE")


def open_release(work: UnitOfWork, building: Building, version: ModelVersion, actor: str) -> ReleaseRow:
    """The release of `version`: the newest one that has not failed, else a new one in BUILDING with its job."""
    newest = next(iter(releases.of_model_version(work.session, version.id)), None)
    if newest is not None and newest.state != FAILED:
        return newest
    number = releases.next_number(work.session, version.name)
    job = _job(work.session, building, version, number)
    row = ReleaseRow(
        id=f"{version.name}-{number}", name=version.name, number=number, state=BUILDING, model_version=version.id, created_utc=work.now,
        manifests={}, approval={}, code="", detail="",
    )  # fmt: skip
    queued = BuildJobRow(
        id=job.id, release=row.id, state="QUEUED", job=job.model_dump(mode="json"), created_utc=work.now,
        result={}, claimed_by="", claimed_utc=None, attempts=0,
    )  # fmt: skip
    releases.add_release(work.session, row, queued)
    work.event("release_building", row.id, actor, model_version=version.id, build=job.id, profiles=list(job.profiles))
    return row


def _job(session: Session, building: Building, version: ModelVersion, number: int) -> BuildJob:
    profiles = building.profiles_for(session)
    if not profiles:
        raise error("BUILD_NO_PROFILE", version.id)
    return BuildJob(
        id=f"build-{version.name}-{number}", name=version.name, number=number, profiles=profiles,
        security_epoch=building.security_epoch, model_version=version, incumbents=_incumbents(session, version),
    )  # fmt: skip


def _incumbents(session: Session, version: ModelVersion) -> dict[str, str]:
    """Model version -> its quantized member, for the versions that devices may be running: the last few signed ones."""
    found: dict[str, str] = {}
    for bundle in releases.signed_of_name(session, version.name, INCUMBENT_RELEASES):
        manifest = bundle.manifest
        found.setdefault(manifest.model_version, manifest.members[manifest.variants[0].member].sha256)
    found.pop(version.id, None)
    return found
