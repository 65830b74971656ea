"""The history of the schema leads to the tables in code, and can be run again."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from control_plane.store.base import Database, make_engine
from control_plane.store.metadata import METADATA
from control_plane.store.migrate import configuration, migrate


def test_upgraded_schema_is_that_of_the_code(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'skerry.db'}")
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        assert ScriptDirectory.from_config(configuration(connection)).get_heads() == ["0001"], "one history, one head"
    engine.dispose()


def test_the_database_is_durable_and_strict(tmp_path: Path) -> None:
    database = Database(make_engine(f"sqlite:///{tmp_path / 'skerry.db'}"))
    with database.read() as session:
        pragmas = {name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")}
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
