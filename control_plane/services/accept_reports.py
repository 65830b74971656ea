"""Evidence from a device: each report is taken once, in its order, and moves what it may move.

Rules:
- Per execution the numbers are dense; only the next one is taken, so the answer (the highest contiguous number) says from
  where to send again. What was taken before is passed over.
- A transition moves the execution where the table allows it, else it is kept and changes nothing.
- CONFIRMED counts only when the device says that the target itself answers its frames.
- A report on another device's execution is refused, and with it the whole batch.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from contracts.errors import error
from contracts.reports import Event, Report, ReportAnswer, ReportBatch, Transition, Window
from contracts.states import State
from control_plane.domain.evidence import Evidence, of_window
from control_plane.domain.execution import Execution, reported
from control_plane.services.unit_of_work import UnitOfWork, Units
from control_plane.store import campaigns, devices, reports
from control_plane.store.campaigns import ExecutionRow
from control_plane.store.devices import DeviceRow
from control_plane.store.reports import ReportRow


def accept_reports(units: Units, device: str, batch: ReportBatch) -> ReportAnswer:
    """Durable when it returns. Raises REPORT_EXECUTION when batch or execution are not this device's."""
    if batch.device != device:
        raise error("REPORT_EXECUTION", batch.device, f"the certificate is that of {device}")
    by_execution: dict[str, list[Report]] = defaultdict(list)
    for report in batch.reports:
        by_execution[report.execution].append(report)
    with units.write() as work:
        row = devices.must(work.session, device)
        _hello(work, row, batch)
        return ReportAnswer(accepted={execution: _accept(work, row, execution, some) for execution, some in by_execution.items()})


def _hello(work: UnitOfWork, row: DeviceRow, batch: ReportBatch) -> None:
    hello = batch.hello
    if hello.profile and hello.profile != row.profile:
        work.event("device_profile", row.id, f"device:{row.id}", was=row.profile, profile=hello.profile)
        row.profile = hello.profile
    row.agent_version, row.running_digest, row.ledger = hello.agent_version, hello.running_digest, hello.ledger
    row.last_seen_utc = work.now


def _accept(work: UnitOfWork, device: DeviceRow, execution: str, some: list[Report]) -> int:
    """Take the reports of one execution; the highest contiguous number afterwards."""
    row = _execution(work, device.id, execution)
    last = reports.last_seq(work.session, device.id, execution)
    before = campaigns.execution(row) if row else None
    now = before
    for report in sorted(some, key=lambda one: one.seq):
        if report.seq > last + 1:
            break
        if report.seq == last + 1:
            last += 1
            work.session.add(_row(work, device.id, report))
            now = _fold(work, device, now, report)
    if row is not None and now is not None and now != before:
        campaigns.write_execution(work.session, row, now)
    return last


def _execution(work: UnitOfWork, device: str, execution: str) -> ExecutionRow | None:
    """The execution's row; None for the time before the first one, and for one that a restored database has forgotten."""
    if not execution:
        return None
    row = campaigns.find_execution(work.session, execution)
    owner = row.device if row else execution.split("/")[1:2] == [device] and device
    if owner != device:
        raise error("REPORT_EXECUTION", execution[:120], f"reported by {device}")
    return row


def _row(work: UnitOfWork, device: str, report: Report) -> ReportRow:
    body = report.model_dump(mode="json", exclude={"execution", "seq", "kind"})
    return ReportRow(device=device, execution=report.execution, seq=report.seq, kind=report.kind, received_utc=work.now, body=body)


def _fold(work: UnitOfWork, device: DeviceRow, execution: Execution | None, report: Report) -> Execution | None:
    if isinstance(report, Event):
        work.event("device_event", device.id, f"device:{device.id}", what=report.event, code=report.code, detail=report.detail[:500])
    if execution is None or report.fence != execution.fence:
        return execution
    if isinstance(report, Window):
        return replace(execution, evidence=execution.evidence + of_window(report, execution.target_digest))
    if isinstance(report, Transition):
        return _transition(work, device, execution, report)
    return execution


def _transition(work: UnitOfWork, device: DeviceRow, execution: Execution, report: Transition) -> Execution:
    if report.local:
        return _local(work, device, execution, report)
    proven = report.state is not State.CONFIRMED or report.bundle_digest == execution.target_digest
    if report.state is State.CONFIRMED and proven:
        device.confirmed_digest = execution.target_digest  # true of the device, also when the execution has ended otherwise
    moved = reported(execution, report.state, report.code, report.detail) if proven else None
    if moved is None:
        _log(work, "execution_late", execution, execution.state, report)
        return execution
    _log(work, "execution_moved", moved, moved.state, report)
    return moved


def _local(work: UnitOfWork, device: DeviceRow, execution: Execution, report: Transition) -> Execution:
    """The device went back by itself after it had confirmed: the execution stays CONFIRMED, its wave loses its proof."""
    _log(work, "local_rollback", execution, report.state, report)
    if report.state is not State.REVERTED:
        return execution
    known = reports.has_confirmed(work.session, device.id, report.bundle_digest)
    device.confirmed_digest = report.bundle_digest if known else ""  # never a digest that was not proven on this device
    return replace(execution, evidence=execution.evidence + Evidence(local_rollbacks=1))


def _log(work: UnitOfWork, event: str, execution: Execution, state: State, report: Transition) -> None:
    work.event(
        event, execution.id, f"device:{execution.device}", device=execution.device, state=state.value, reported=report.state.value,
        kind=execution.kind, bundle_digest=report.bundle_digest, target_digest=execution.target_digest, code=report.code,
        detail=report.detail[:500], seq=report.seq,
    )  # fmt: skip
