"""Releases, build jobs, signed bundles, feature schemas, and what was last seen of the registry's aliases."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Integer, String, Text, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, mapped_column

from contracts.errors import error
from contracts.features import FeatureSchema
from contracts.manifest import Manifest
from contracts.release import SignedBundle
from control_plane.store.base import Base, Session
from control_plane.store.events import EventRow


class ReleaseRow(Base):
    """`state` moves by control_plane/services/releases.py alone."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("name", "number"),)

    id: Mapped[str] = mapped_column(String, primary_key=True)  # <name>-<number>
    name: Mapped[str] = mapped_column(String)
    number: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String, index=True)
    model_version: Mapped[str] = mapped_column(String, index=True)  # model:<name>/<v>
    manifests: Mapped[dict[str, str]] = mapped_column(default=dict)  # profile -> bundle digest, once built
    approval: Mapped[dict[str, str]] = mapped_column(default=dict)  # contracts.release.Approval, once approved
    code: Mapped[str] = mapped_column(String, default="")
    detail: Mapped[str] = mapped_column(Text, default="")
    created_utc: Mapped[datetime]


class BuildJobRow(Base):
    """One job per release. `claimed_by` is the service that was given it; only its answer is taken."""

    __tablename__ = "build_jobs"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    release: Mapped[str] = mapped_column(ForeignKey("releases.id"), unique=True)
    state: Mapped[str] = mapped_column(String, index=True)  # QUEUED, RUNNING, DONE
    job: Mapped[dict[str, Any]]  # contracts.release.BuildJob
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)  # contracts.release.BuildResult, once answered
    claimed_by: Mapped[str] = mapped_column(String, default="")
    claimed_utc: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    created_utc: Mapped[datetime]


class SignedBundleRow(Base):
    """A manifest that the signer has put into the image repository. `manifest` holds the signed bytes, as text."""

    __tablename__ = "signed_bundles"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    release: Mapped[str] = mapped_column(ForeignKey("releases.id"), index=True)
    profile: Mapped[str] = mapped_column(String)
    length: Mapped[int] = mapped_column(Integer)
    manifest: Mapped[str] = mapped_column(Text)


class FeatureSchemaRow(Base):
    __tablename__ = "feature_schemas"

    schema_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    schema: Mapped[dict[str, Any]]  # contracts.features.FeatureSchema


class AliasRow(Base):
    """The alias as it was when we last acted on it: the registry's own may have been moved by others since."""

    __tablename__ = "aliases_seen"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    alias: Mapped[str] = mapped_column(String, primary_key=True)
    version: Mapped[int] = mapped_column(Integer)


class FollowerRow(Base):
    """How far a follower of the event log has acted."""

    __tablename__ = "event_followers"

    follower: Mapped[str] = mapped_column(String, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer)


# -- releases


def must_release(session: Session, release_id: str) -> ReleaseRow:
    """Raises API_NOT_FOUND."""
    row = session.get(ReleaseRow, release_id)
    if row is None:
        raise error("API_NOT_FOUND", release_id, "no such release")
    return row


def releases(session: Session) -> list[ReleaseRow]:
    """Newest first."""
    return list(session.scalars(select(ReleaseRow).order_by(ReleaseRow.created_utc.desc(), ReleaseRow.number.desc())))


def aliases_seen(session: Session) -> dict[tuple[str, str], int]:
    return {(row.name, row.alias): row.version for row in session.scalars(select(AliasRow))}


def in_state(session: Session, state: str) -> list[ReleaseRow]:
    return list(session.scalars(select(ReleaseRow).where(ReleaseRow.state == state).order_by(ReleaseRow.created_utc)))


def of_model_version(session: Session, model_version: str) -> list[ReleaseRow]:
    """Newest first."""
    query = select(ReleaseRow).where(ReleaseRow.model_version == model_version).order_by(ReleaseRow.number.desc())
    return list(session.scalars(query))


def next_number(session: Session, name: str) -> int:
    """Dense from 1 for a name; call it in the transaction that adds the row."""
    return (session.scalar(select(func.max(ReleaseRow.number)).where(ReleaseRow.name == name)) or 0) + 1


def add_release(session: Session, row: ReleaseRow, job: BuildJobRow) -> None:
    session.add(row)
    session.flush()  # the job refers to it
    session.add(job)


# -- build jobs


def job(session: Session, job_id: str) -> BuildJobRow | None:
    return session.get(BuildJobRow, job_id)


def has_open_job(session: Session) -> bool:
    return session.scalar(select(BuildJobRow.id).where(BuildJobRow.state != "DONE").limit(1)) is not None


def running_job_of(session: Session, builder: str) -> BuildJobRow | None:
    query = select(BuildJobRow).where(BuildJobRow.state == "RUNNING", BuildJobRow.claimed_by == builder)
    return session.scalars(query.order_by(BuildJobRow.created_utc).limit(1)).first()


def claimable_job(session: Session, claimed_before: datetime) -> BuildJobRow | None:
    """The oldest job that nobody has, else one whose builder took it before `claimed_before` and never answered."""
    queued = select(BuildJobRow).where(BuildJobRow.state == "QUEUED").order_by(BuildJobRow.created_utc).limit(1)
    lost = select(BuildJobRow).where(BuildJobRow.state == "RUNNING", BuildJobRow.claimed_utc < claimed_before).limit(1)
    return session.scalars(queued).first() or session.scalars(lost).first()


# -- signed bundles and schemas


def add_signed(session: Session, release_id: str, digest: str, raw: bytes, manifest: Manifest) -> None:
    """Adding a digest again changes nothing."""
    session.merge(SignedBundleRow(digest=digest, release=release_id, profile=manifest.profile, length=len(raw), manifest=raw.decode()))
    for schema in (manifest.feature_schema, *manifest.window_schemas):
        session.merge(FeatureSchemaRow(schema_id=schema.schema_id, schema=schema.model_dump(mode="json")))


def signed(session: Session, digest: str) -> SignedBundle | None:
    row = session.get(SignedBundleRow, digest)
    return _signed_bundle(row) if row else None


def signed_of_release(session: Session, release_id: str) -> dict[str, SignedBundle]:
    rows = session.scalars(select(SignedBundleRow).where(SignedBundleRow.release == release_id))
    return {row.profile: _signed_bundle(row) for row in rows}


def signed_of_name(session: Session, name: str, last: int) -> list[SignedBundle]:
    """Bundles of the newest `last` signed releases of `name`, newest release first."""
    query = select(ReleaseRow).where(ReleaseRow.name == name, ReleaseRow.state == "SIGNED").order_by(ReleaseRow.number.desc()).limit(last)
    return [bundle for row in session.scalars(query) for bundle in signed_of_release(session, row.id).values()]


def release_of_bundle(session: Session, digest: str) -> str | None:
    row = session.get(SignedBundleRow, digest)
    return row.release if row else None


def _signed_bundle(row: SignedBundleRow) -> SignedBundle:
    return SignedBundle(manifest=Manifest.model_validate_json(row.manifest), digest=row.digest, length=row.length)


def feature_schema(session: Session, schema_id: str) -> FeatureSchema | None:
    row = session.get(FeatureSchemaRow, schema_id)
    return FeatureSchema.model_validate(row.schema) if row else None


# -- models, aliases and followers


def was_registered(session: Session, model_version: str) -> bool:
    """Whether the log has it: registering the same content again is no new event."""
    query = select(EventRow.seq).where(EventRow.event == "model_registered", EventRow.subject == model_version).limit(1)
    return session.scalar(query) is not None


def alias_seen(session: Session, name: str, alias: str) -> int | None:
    row = session.get(AliasRow, (name, alias))
    return row.version if row else None


def see_alias(session: Session, name: str, alias: str, version: int) -> None:
    session.merge(AliasRow(name=name, alias=alias, version=version))


def followed(session: Session, follower: str) -> int:
    row = session.get(FollowerRow, follower)
    return row.seq if row else 0


def follow(session: Session, follower: str, seq: int) -> None:
    session.merge(FollowerRow(follower=follower, seq=seq))
