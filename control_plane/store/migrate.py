"""Brings the database to this release's schema, in one transaction; runs at each start.

A database goes forward only: revisions have no downgrade, who must go back restores a backup.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine

from control_plane.store.base import on_disk

MIGRATIONS = Path(__file__).with_name("migrations")


def configuration(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def migrate(engine: Engine) -> None:
    """Upgrade to the newest revision; a crash in the middle leaves the schema as it was. Raises API_STORAGE."""
    with on_disk(engine), engine.begin() as connection:
        command.upgrade(configuration(connection), "head")
