"""Handing build jobs to skerry-build and taking its results.

A job belongs to the builder that took it until it answers; a builder that asks again (it was restarted) gets the same job,
and after the lease another builder may have it. A result is checked against the job before anybody is asked to approve it.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import ValidationError

from contracts.canonical import canonical_json
from contracts.errors import CODES, error
from contracts.manifest import MANIFEST_MAX_BYTES, Manifest
from contracts.release import BuildJob, BuildResult
from control_plane.adapters.blobs import BlobStore
from control_plane.services.releases_state import BUILT, FAILED, move
from control_plane.services.unit_of_work import UnitOfWork, Units
from control_plane.store import releases
from control_plane.store.releases import BuildJobRow


def next_job(units: Units, builder: str, lease_s: float) -> BuildJob | None:
    """The job that `builder` has or gets now; None when there is nothing to build."""
    with units.read() as session:  # most polls end here, without the one writer's lock
        waiting = releases.running_job_of(session, builder) or releases.has_open_job(session)
    if not waiting:
        return None
    with units.write() as work:
        mine = releases.running_job_of(work.session, builder)
        row = mine or releases.claimable_job(work.session, work.now - timedelta(seconds=lease_s))
        if row is None:
            return None
        _claim(work, row, builder)
        return BuildJob.model_validate(row.job)


def _claim(work: UnitOfWork, row: BuildJobRow, builder: str) -> None:
    row.state, row.claimed_by, row.claimed_utc = "RUNNING", builder, work.now
    row.attempts += 1
    work.event("build_started", row.release, builder, build=row.id, attempt=row.attempts)


def take_result(units: Units, blobs: BlobStore, builder: str, job_id: str, result: BuildResult) -> None:
    """Record the outcome: the release is BUILT or FAILED. The same result again changes nothing.

    Raises API_NOT_FOUND, API_FORBIDDEN (another builder's job), API_CONFLICT (answered before, otherwise), BUILD_RESULT.
    """
    job = _job_of(units, builder, job_id, result)
    if job is None:
        return
    if not result.code:
        for profile, digest in result.manifests.items():
            _check_manifest(blobs, job, profile, digest)
    with units.write() as work:
        row = releases.job(work.session, job_id)
        if row is not None and row.state == "RUNNING" and row.claimed_by == builder:
            _finish(work, row, builder, result)


def _job_of(units: Units, builder: str, job_id: str, result: BuildResult) -> BuildJob | None:
    with units.read() as session:
        row = releases.job(session, job_id)
        if row is None:
            raise error("API_NOT_FOUND", job_id, "no such build")
        if row.claimed_by != builder:
            raise error("API_FORBIDDEN", job_id, f"the job belongs to {row.claimed_by or 'nobody'}")
        if row.state == "DONE":
            if canonical_json(row.result) != canonical_json(result.model_dump(mode="json")):
                raise error("API_CONFLICT", job_id, "the build was answered before with another result")
            return None
        return BuildJob.model_validate(row.job)


def _check_manifest(blobs: BlobStore, job: BuildJob, profile: str, digest: str) -> None:
    if blobs.size(digest) > MANIFEST_MAX_BYTES:
        raise error("BUILD_RESULT", profile, f"manifest of {blobs.size(digest)} bytes")
    try:
        manifest = Manifest.model_validate_json(blobs.read(digest))
    except ValidationError as broken:
        raise error("BUILD_RESULT", profile, str(broken)[:500]) from broken
    version = job.model_version
    wanted = (job.name, job.number, profile, version.id, version.run, version.registration.data_digest, job.security_epoch)
    found = (manifest.name, manifest.number, manifest.profile, manifest.model_version, manifest.run, manifest.data, manifest.security_epoch)
    if found != wanted:
        raise error("BUILD_RESULT", profile, f"the manifest says {found}, the job {wanted}")
    for name, member in manifest.members.items():
        if not blobs.has(member.sha256) or blobs.size(member.sha256) != member.length:
            raise error("BUILD_RESULT", profile, f"member {name} was not uploaded")


def _finish(work: UnitOfWork, row: BuildJobRow, builder: str, result: BuildResult) -> None:
    job = BuildJob.model_validate(row.job)
    row.state, row.result = "DONE", result.model_dump(mode="json")
    release = releases.must_release(work.session, row.release)
    missing = set(job.profiles) - set(result.manifests)
    if result.code or missing:
        code = result.code if result.code in CODES else "BUILD_RESULT"
        detail = result.detail or f"nothing was built for {', '.join(sorted(missing))}"
        move(work, release, FAILED, builder, code=code, detail=detail)
        return
    release.manifests = dict(result.manifests)
    move(work, release, BUILT, builder, manifests=dict(result.manifests))
