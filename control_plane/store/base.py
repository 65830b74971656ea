"""The database: one declarative base, one engine, sync sessions. SQLite by default, PostgreSQL by its URL.

Rules: one writer at a time (a lock in this process, BEGIN IMMEDIATE between processes); WAL and synchronous FULL,
so that what was answered survives a power cut; foreign keys on; times are aware UTC.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, Engine, MetaData, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import JSON, TypeDecorator

from contracts.errors import error

__all__ = ["Base", "Database", "Session", "Utc", "make_engine"]

BUSY_TIMEOUT_MS = 10_000
_READ_ONLY = "skerry_read_only"
_NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Utc(TypeDecorator[datetime]):
    """An aware datetime in UTC, to the microsecond; naive ones are refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {
        datetime: Utc,
        dict[str, Any]: JSON,
        dict[str, str]: JSON,
        dict[str, int]: JSON,
        dict[str, float]: JSON,
        list[Any]: JSON,
        list[str]: JSON,
        list[int]: JSON,
    }


def make_engine(url: str) -> Engine:
    """Engine for `url`; on SQLite it sets the pragmas and takes over BEGIN (the driver's own is deferred)."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_pragmas)
        event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver starts no transaction of its own
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later fails with BUSY instead of waiting.
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


# The disk's own troubles; PostgreSQL reports its own through the server's log, and as a lost connection.
_DISK_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


@contextmanager
def on_disk(engine: Engine) -> Iterator[None]:
    """A disk that takes no writes is API_STORAGE: the transaction did not happen, and may be tried again. All else is a bug."""
    try:
        yield
    except OperationalError as failed:
        code = getattr(failed.orig, "sqlite_errorcode", 0)
        if code & 0xFF not in _DISK_CODES:  # the upper bits are SQLite's finer distinctions
            raise
        raise error("API_STORAGE", str(engine.url.database), str(failed.orig)) from failed


class Database:
    """Hands out sessions: `write()` is one transaction that commits at the end of the block, `read()` sees one snapshot.

    Both raise TransientError API_STORAGE when the disk does not take writes.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reader = engine.execution_options(**{_READ_ONLY: True})
        # SQLite's own waiting is a sleep with back-off; a lock hands over at once and in order.
        self._writer = threading.RLock()

    @contextmanager
    def write(self) -> Iterator[Session]:
        with on_disk(self.engine), self._writer, Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        with on_disk(self.engine), Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()
