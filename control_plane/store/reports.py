"""Reports of devices, as received; once each: (device, execution, seq) is the key. `execution` is "" before the first one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, func, select
from sqlalchemy.orm import Mapped, mapped_column

from contracts.states import State
from control_plane.store.base import Base, Session


class ReportRow(Base):
    __tablename__ = "reports"

    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    execution: Mapped[str] = mapped_column(String, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(String)
    received_utc: Mapped[datetime]
    body: Mapped[dict[str, Any]]


def has_confirmed(session: Session, device: str, digest: str) -> bool:
    """Whether this device ever reported `digest` CONFIRMED, while `digest` itself answered its frames."""
    told = ReportRow.body["state"].as_string() == State.CONFIRMED.value, ReportRow.body["bundle_digest"].as_string() == digest
    query = select(ReportRow.seq).where(ReportRow.device == device, ReportRow.kind == "transition", *told).limit(1)
    return session.scalar(query) is not None


def last_seq(session: Session, device: str, execution: str) -> int:
    """The highest number that is here; they are dense, since only the next one is ever taken."""
    query = select(func.max(ReportRow.seq)).where(ReportRow.device == device, ReportRow.execution == execution)
    return session.scalar(query) or 0
