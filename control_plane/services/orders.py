"""Orders to devices: the desired rows that an execution's moves write, in the campaign's own transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from contracts.assignment import Component
from contracts.errors import error
from contracts.operator import CampaignRequest
from contracts.states import State
from control_plane.domain.execution import Execution, moved
from control_plane.services import releases_catalogue
from control_plane.services.unit_of_work import UnitOfWork
from control_plane.store import campaigns, desired
from control_plane.store.campaigns import ExecutionRow

OFFERED = State.OFFERED


def offer(work: UnitOfWork, request: CampaignRequest, execution: Execution) -> None:
    """Name the execution's bundle in the device's desired state. Raises CAMPAIGN_NO_RELEASE when it is not signed."""
    bundle = releases_catalogue.bundle(work.session, execution.target_digest)
    if bundle is None:
        raise error("CAMPAIGN_NO_RELEASE", execution.id, f"bundle {execution.target_digest} is not signed")
    component = Component(target=bundle.manifest.target_path, length=bundle.length, sha256=bundle.digest)
    order: dict[str, Any] = {
        "kind": execution.kind,
        "execution": execution.id,
        "fence": execution.fence,
        "components": [component.model_dump(mode="json")],
        "activate": execution.activate,
        "shadow_pairs": 0 if execution.activate else request.shadow_pairs,
        "probation": {"min_s": request.probation_s, "min_frames": request.probation_frames},
        "deadline_utc": {
            state.value: (work.now + timedelta(seconds=limit_s)).isoformat() for state, limit_s in request.state_deadline_s.items()
        },
    }
    desired.order(work.session, execution.device, order, work.now)


def activate(work: UnitOfWork, execution: Execution) -> None:
    """The shadow was judged good: the same order again, now with leave to activate."""
    desired.activate(work.session, execution.device, execution.id, work.now)
    work.event("execution_activated", execution.id, device=execution.device)


def withdraw(work: UnitOfWork, execution: Execution) -> None:
    """Take the order back, if it still is the device's."""
    row = desired.find(work.session, execution.device)
    if row is not None and row.order.get("execution") == execution.id:
        desired.order(work.session, execution.device, desired.NOTHING, work.now)
    work.event("execution_withdrawn", execution.id, device=execution.device)


def supersede(work: UnitOfWork, row: ExecutionRow, by: str) -> None:
    """An older campaign's order gives way to that of campaign `by`."""
    ended = moved(campaigns.execution(row), State.SUPERSEDED, detail=f"by campaign {by}")
    campaigns.write_execution(work.session, row, ended)
    log_move(work, ended)


def log_move(work: UnitOfWork, execution: Execution) -> None:
    work.event(
        "execution_moved", execution.id, device=execution.device, state=execution.state.value, kind=execution.kind, fence=execution.fence,
        target_digest=execution.target_digest, previous_digest=execution.previous_digest, code=execution.code, detail=execution.detail,
    )  # fmt: skip
