"""Numbers that only grow: registry revision, desired revision, fence.

Fences and generations follow the clock in seconds where it is ahead of them, so that after a database was restored from an
older backup the next number is above every number that was given out before.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.store.base import Base, Session

REGISTRY, DESIRED, FENCE = "registry", "desired", "fence"


class CounterRow(Base):
    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


def read(session: Session, name: str) -> int:
    row = session.get(CounterRow, name)
    return row.value if row else 0


def raised(session: Session, name: str, at_least: int = 0) -> int:
    """The counter's next value, at least `at_least`."""
    row = session.get(CounterRow, name, with_for_update=True)
    if row is None:
        row = CounterRow(name=name, value=0)
        session.add(row)
    row.value = max(row.value + 1, at_least)
    session.flush()
    return row.value


def after(previous: int, now: datetime) -> int:
    """The number after `previous`, jumping to the clock's second when that is further."""
    return max(previous + 1, int(now.timestamp()))
