"""What each device shall run. The director's metadata are a function of this row (adapters/director.py) and nothing else.

`director_version` is the version of all three director roles; it is raised by compare-and-set, so two replicas never
issue one version with two contents.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from contracts.errors import error
from control_plane.store import counters
from control_plane.store.base import Base, Session


class DesiredRow(Base):
    __tablename__ = "desired"

    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    generation: Mapped[int] = mapped_column(BigInteger)
    director_version: Mapped[int] = mapped_column(BigInteger)
    issued_utc: Mapped[datetime]  # of this director version
    order: Mapped[dict[str, Any]]  # kind, execution, fence, components, activate, shadow_pairs, probation, deadline_utc
    revision: Mapped[int] = mapped_column(BigInteger, index=True)  # over all devices: what changed since ...

    # UPDATE ... WHERE director_version = <as read>; the next version is ours to choose
    __mapper_args__ = {"version_id_col": director_version, "version_id_generator": False}


NOTHING: dict[str, Any] = {"kind": "none"}


def find(session: Session, device: str) -> DesiredRow | None:
    return session.get(DesiredRow, device)


def order(session: Session, device: str, order: dict[str, Any], now: datetime) -> None:
    """Give `device` a new order: its next generation."""
    revision = counters.raised(session, counters.DESIRED)
    row = session.get(DesiredRow, device, with_for_update=True)
    if row is None:
        row = DesiredRow(device=device, generation=0, director_version=0)
        session.add(row)
    row.generation, row.order = counters.after(row.generation, now), order
    _issue(session, row, revision, now)


def activate(session: Session, device: str, execution: str, now: datetime) -> None:
    """Set `activate` in the order for `execution`, if that is still the device's order."""
    row = session.get(DesiredRow, device, with_for_update=True)
    if row is not None and row.order.get("execution") == execution:
        order(session, device, {**row.order, "activate": True}, now)


def reissue(session: Session, device: str, seen_version: int, now: datetime) -> bool:
    """Same order, next director version; False when another replica did it first."""
    row = session.get(DesiredRow, device, with_for_update=True)
    if row is None or row.director_version != seen_version:
        return False
    _issue(session, row, counters.raised(session, counters.DESIRED), now)
    return True


def _issue(session: Session, row: DesiredRow, revision: int, now: datetime) -> None:
    device = row.device  # cannot be read any more once the flush has failed
    row.issued_utc, row.revision = now, revision
    row.director_version = counters.after(row.director_version, now)
    try:
        session.flush()
    except StaleDataError as lost:
        raise error("API_CONFLICT", device, "another replica changed its desired state") from lost


def revision(session: Session) -> int:
    return counters.read(session, counters.DESIRED)


def changed_since(session: Session, revision: int) -> list[str]:
    return list(session.scalars(select(DesiredRow.device).where(DesiredRow.revision > revision)))


def generations(session: Session) -> dict[str, int]:
    return {device: generation for device, generation in session.execute(select(DesiredRow.device, DesiredRow.generation))}
