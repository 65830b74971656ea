"""One use case = one transaction: rows and events are committed together, then whoever waits is woken.

    with units.write() as work:
        row = releases.find(work.session, release_id)
        ...
        work.event("release_signed", release_id, "operator:local", manifests=...)
        work.after_commit(lambda: queue.wake())

An exception inside the block rolls everything back, the events too, and no hook runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from control_plane.store import events
from control_plane.store.base import Database, Session
from program.clock import Clock

SYSTEM = "system"
Hook = Callable[[], None]


class UnitOfWork:
    """One open transaction. `now` is read once: everything in a use case happens at one time."""

    def __init__(self, session: Session, now: datetime) -> None:
        self.session, self.now = session, now
        self.hooks: list[Hook] = []

    def event(self, event: str, subject: str, actor: str = SYSTEM, **data: Any) -> int:
        """Append to the log, in this transaction; returns its seq. `data` must be plain JSON values."""
        return events.append(self.session, self.now, event, subject, actor, data)

    def after_commit(self, hook: Hook) -> None:
        """Run `hook` once the transaction is durable; on the committing thread, so it must be short and thread-safe."""
        self.hooks.append(hook)


class Units:
    """Makes units of work on one database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._listeners: list[Hook] = []

    def now(self) -> datetime:
        return self._clock.utc()

    def on_commit(self, listener: Hook) -> None:
        """`listener` is called after every commit, on the committing thread."""
        self._listeners.append(listener)

    @contextmanager
    def write(self) -> Iterator[UnitOfWork]:
        with self._database.write() as session:
            work = UnitOfWork(session, self._clock.utc())
            yield work
        for hook in (*work.hooks, *self._listeners):
            hook()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One snapshot; writing in it is an error of the caller."""
        with self._database.read() as session:
            yield session
