"""Campaigns, waves and executions as rows; `load` and `save` turn them into domain values and back.

`save` is compare-and-set on `revision`: who decided on an older campaign writes nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, ForeignKey, Integer, String, select, update
from sqlalchemy.orm import Mapped, mapped_column

from contracts.errors import error
from contracts.operator import CampaignRequest, CampaignState, Gate, GateView, WaveState
from contracts.states import TERMINAL, State
from control_plane.domain.campaign import Campaign, Policy
from control_plane.domain.evidence import Evidence
from control_plane.domain.execution import Execution
from control_plane.domain.wave import Wave
from control_plane.store.base import Base, Session

ENDED = ("SUCCEEDED", "ROLLED_BACK")


class CampaignRow(Base):
    __tablename__ = "campaigns"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)  # order of creation
    name: Mapped[str] = mapped_column(String)
    release: Mapped[str] = mapped_column(String, index=True)
    request: Mapped[dict[str, Any]]  # as asked, frozen
    state: Mapped[CampaignState] = mapped_column(String, index=True)
    reason: Mapped[str] = mapped_column(String, default="")
    revision: Mapped[int] = mapped_column(BigInteger)
    created_utc: Mapped[datetime]
    alarm_utc: Mapped[datetime | None] = mapped_column(index=True)  # the earliest deadline in it: where the alarm clock is set from


class WaveRow(Base):
    __tablename__ = "waves"

    campaign: Mapped[str] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    state: Mapped[WaveState] = mapped_column(String)
    devices: Mapped[list[str]]
    gates: Mapped[list[Any]]
    soak_s: Mapped[float]
    deadline_utc: Mapped[datetime | None]
    soak_until_utc: Mapped[datetime | None]
    verdicts: Mapped[list[Any]]


class ExecutionRow(Base):
    __tablename__ = "executions"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    campaign: Mapped[str] = mapped_column(ForeignKey("campaigns.id"), index=True)
    position: Mapped[int] = mapped_column(Integer)  # order of creation within the campaign
    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), index=True)
    wave: Mapped[int] = mapped_column(Integer)
    kind: Mapped[Literal["install", "rollback"]] = mapped_column(String)
    target_digest: Mapped[str] = mapped_column(String)
    previous_digest: Mapped[str] = mapped_column(String)
    fence: Mapped[int] = mapped_column(BigInteger, unique=True)
    state: Mapped[str] = mapped_column(String, index=True)
    activate: Mapped[bool]
    withdrawn: Mapped[bool]
    code: Mapped[str] = mapped_column(String)
    detail: Mapped[str] = mapped_column(String)
    offered_utc: Mapped[datetime | None]
    evidence: Mapped[dict[str, Any]]


def must(session: Session, campaign: str) -> CampaignRow:
    """Raises CAMPAIGN_UNKNOWN."""
    row = session.get(CampaignRow, campaign)
    if row is None:
        raise error("CAMPAIGN_UNKNOWN", campaign)
    return row


def listed(session: Session) -> list[CampaignRow]:
    return list(session.scalars(select(CampaignRow).order_by(CampaignRow.number)))


def to_tend(session: Session) -> list[CampaignRow]:
    """Campaigns in which something may become due, oldest first."""
    open_somewhere = select(ExecutionRow.campaign).where(ExecutionRow.state.not_in([state.value for state in TERMINAL]))
    query = select(CampaignRow).where(CampaignRow.state.not_in([*ENDED, "ABORTED"]) | CampaignRow.id.in_(open_somewhere))
    return list(session.scalars(query.order_by(CampaignRow.number)))


def next_alarm(session: Session) -> datetime | None:
    query = select(CampaignRow.alarm_utc).where(CampaignRow.alarm_utc.is_not(None)).order_by(CampaignRow.alarm_utc).limit(1)
    return session.scalar(query)


def open_elsewhere(session: Session, campaign: str) -> list[tuple[ExecutionRow, int]]:
    """Open executions of other campaigns, with the number of their campaign."""
    query = select(ExecutionRow, CampaignRow.number).join(CampaignRow, CampaignRow.id == ExecutionRow.campaign)
    elsewhere = query.where(ExecutionRow.state.not_in([state.value for state in TERMINAL]), ExecutionRow.campaign != campaign)
    return [(row, number) for row, number in session.execute(elsewhere)]


def find_execution(session: Session, execution: str) -> ExecutionRow | None:
    return session.get(ExecutionRow, execution)


def load(session: Session, row: CampaignRow) -> Campaign:
    request = CampaignRequest.model_validate(row.request)
    policy = Policy(request.shadow_pairs, request.wave_deadline_s, request.state_deadline_s, request.on_failure)
    waves = session.scalars(select(WaveRow).where(WaveRow.campaign == row.id).order_by(WaveRow.number))
    executions = session.scalars(select(ExecutionRow).where(ExecutionRow.campaign == row.id).order_by(ExecutionRow.position))
    return Campaign(
        row.id, policy, tuple(_wave(wave) for wave in waves), tuple(execution(one) for one in executions),
        row.state, row.reason, row.revision,
    )  # fmt: skip


def _wave(row: WaveRow) -> Wave:
    return Wave(
        row.number, tuple(row.devices), tuple(Gate.model_validate(gate) for gate in row.gates), row.soak_s, row.state,
        row.deadline_utc, row.soak_until_utc, tuple(GateView.model_validate(view) for view in row.verdicts),
    )  # fmt: skip


def execution(row: ExecutionRow) -> Execution:
    return Execution(
        row.id, row.device, row.wave, row.kind, row.target_digest, row.previous_digest, row.fence, State(row.state),
        row.activate, row.withdrawn, row.code, row.detail, row.offered_utc, Evidence.from_json(row.evidence),
    )  # fmt: skip


def save(session: Session, before: Campaign, after: Campaign, alarm_utc: datetime | None) -> None:
    """Write what differs. Raises API_CONFLICT when the campaign was changed since `before` was loaded."""
    statement = update(CampaignRow).where(CampaignRow.id == before.id, CampaignRow.revision == before.revision)
    values = {"state": after.state, "reason": after.reason, "revision": before.revision + 1, "alarm_utc": alarm_utc}
    if session.connection().execute(statement.values(**values)).rowcount != 1:
        raise error("API_CONFLICT", before.id, "another scheduler was first")
    session.expire(must(session, before.id))
    known = {one.id: one for one in before.executions}
    for position, one in enumerate(after.executions):
        if known.get(one.id) != one:
            session.merge(_execution_row(before.id, position, one))
    for old, new in zip(before.waves, after.waves, strict=True):
        if old != new:
            session.merge(wave_row(before.id, new))
    session.flush()


def write_execution(session: Session, row: ExecutionRow, one: Execution) -> None:
    """What a report changed. Raises the campaign's revision, so that a decision made before it is not written over it."""
    session.connection().execute(update(CampaignRow).where(CampaignRow.id == row.campaign).values(revision=CampaignRow.revision + 1))
    session.expire(must(session, row.campaign))
    row.state, row.code, row.detail, row.evidence = one.state.value, one.code, one.detail, one.evidence.to_json()
    session.flush()


def wave_row(campaign: str, wave: Wave) -> WaveRow:
    return WaveRow(
        campaign=campaign, number=wave.number, state=wave.state, devices=list(wave.devices), soak_s=wave.soak_s,
        gates=[gate.model_dump(mode="json") for gate in wave.gates], deadline_utc=wave.deadline_utc, soak_until_utc=wave.soak_until_utc,
        verdicts=[view.model_dump(mode="json") for view in wave.verdicts],
    )  # fmt: skip


def _execution_row(campaign: str, position: int, one: Execution) -> ExecutionRow:
    return ExecutionRow(
        id=one.id, campaign=campaign, position=position, device=one.device, wave=one.wave, kind=one.kind, target_digest=one.target_digest,
        previous_digest=one.previous_digest, fence=one.fence, state=one.state.value, activate=one.activate, withdrawn=one.withdrawn,
        code=one.code, detail=one.detail, offered_utc=one.offered_utc, evidence=one.evidence.to_json(),
    )  # fmt: skip
