"""The append-only event log. Each line's hash covers the hash before it, so that it cannot be shortened or edited unseen."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Integer, String, select
from sqlalchemy.orm import Mapped, mapped_column

from contracts.canonical import canonical_json, sha256_hex
from contracts.operator import EventView
from control_plane.store.base import Base, Session

CHAIN_START = "0" * 64


class EventRow(Base):
    __tablename__ = "events"

    # plain INTEGER on SQLite, where only that is the rowid
    seq: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False)
    utc: Mapped[str] = mapped_column(String)  # as hashed: ISO 8601
    event: Mapped[str] = mapped_column(String, index=True)
    subject: Mapped[str] = mapped_column(String, index=True)
    actor: Mapped[str] = mapped_column(String)
    data: Mapped[str] = mapped_column(String)  # canonical JSON, as hashed
    hash: Mapped[str] = mapped_column(String(64))


def chain_hash(previous: str, seq: int, utc: str, event: str, subject: str, actor: str, data: dict[str, Any]) -> str:
    """sha256(previous hash || canonical JSON of the line without its hash), hex."""
    line = {"seq": seq, "utc": utc, "event": event, "subject": subject, "actor": actor, "data": data}
    return sha256_hex(previous.encode() + canonical_json(line))


def append(session: Session, utc: datetime, event: str, subject: str, actor: str, data: dict[str, Any]) -> int:
    """The seq of the new line. Dense from 1: the one writer reads the last line in its own transaction."""
    last = session.execute(select(EventRow.seq, EventRow.hash).order_by(EventRow.seq.desc()).limit(1)).first()
    seq, previous = (last[0] + 1, last[1]) if last else (1, CHAIN_START)
    when = utc.isoformat()
    text = canonical_json(data).decode()
    line_hash = chain_hash(previous, seq, when, event, subject, actor, data)
    session.add(EventRow(seq=seq, utc=when, event=event, subject=subject, actor=actor, data=text, hash=line_hash))
    session.flush()
    return seq


def read(session: Session, after: int, limit: int) -> list[EventView]:
    rows = session.scalars(select(EventRow).where(EventRow.seq > after).order_by(EventRow.seq).limit(limit))
    return [_view(row) for row in rows]


def last_seq(session: Session) -> int:
    return session.scalar(select(EventRow.seq).order_by(EventRow.seq.desc()).limit(1)) or 0


def _view(row: EventRow) -> EventView:
    return EventView(
        seq=row.seq, utc=row.utc, event=row.event, subject=row.subject, actor=row.actor, data=json.loads(row.data), hash=row.hash
    )


def first_broken(lines: list[EventView], previous: str = CHAIN_START) -> int | None:
    """seq of the first line whose hash or number does not follow from the line before it; None when the chain holds."""
    expected = lines[0].seq if lines else 0
    for line in lines:
        good = chain_hash(previous, line.seq, line.utc, line.event, line.subject, line.actor, line.data)
        if line.seq != expected or line.hash != good:
            return line.seq
        previous, expected = line.hash, expected + 1
    return None
