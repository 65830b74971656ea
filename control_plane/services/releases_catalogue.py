"""What campaigns need to know of releases: which signed bundle there is for which profile."""

from __future__ import annotations

from contracts.errors import error
from contracts.features import FeatureSchema
from contracts.release import SignedBundle
from control_plane.store import releases
from control_plane.store.base import Session


def bundles(session: Session, release: str) -> dict[str, SignedBundle]:
    """profile -> the signed bundle; {} when the release is unknown or not signed."""
    return releases.signed_of_release(session, release)


def bundle(session: Session, digest: str) -> SignedBundle | None:
    """The signed bundle of this digest; None when none was signed."""
    return releases.signed(session, digest)


def feature_schema(session: Session, schema_id: str) -> FeatureSchema:
    """Raises API_NOT_FOUND unless a signed release brought this schema."""
    schema = releases.feature_schema(session, schema_id)
    if schema is None:
        raise error("API_NOT_FOUND", schema_id, "no signed release has this schema")
    return schema
