"""Brings the database to this release's schema; runs at each start. One history, in migrations/."""

from __future__ import annotations

from sqlalchemy import Engine

from control_plane.store import campaigns, desired, devices, events, releases, reports  # noqa: F401 - they fill the metadata
from control_plane.store.base import Base


def migrate(engine: Engine) -> None:
    Base.metadata.create_all(engine)
