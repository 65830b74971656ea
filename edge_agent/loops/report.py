"""Reports: windows and transitions to the control plane, by HTTPS alone (a broker must not be able to pass a gate).

Each report is durable with its dense number before it is sent, and is dropped only when the server says that it has it.
While the cloud is away, or the disk takes no writes, windows are summed: the store stays bounded, and nothing is lost but resolution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from contracts.errors import LocalFaultError, RejectedError, SkerryError, TransientError
from contracts.reports import MAX_REPORTS, Hello, Report, ReportBatch
from contracts.states import State
from edge_agent.core.backoff import Backoff
from edge_agent.core.record import Record
from edge_agent.core.windows import Summary
from edge_agent.loops.exchange import Exchange
from edge_agent.ports import ControlPlane, Draft, PendingReport, Store
from program.clock import Clock
from program.log import Log

JUDGED_WINDOW_S = 1.0  # while somebody waits for evidence
MAX_WAITING = 2000  # unsent reports beyond which windows are only summed
_JUDGED = (State.SHADOWING, State.PROBATION)
_REPORT: TypeAdapter[Any] = TypeAdapter(Report)


class ReportLoop:
    def __init__(
        self,
        device: str,
        store: Store,
        control: ControlPlane,
        exchange: Exchange,
        clock: Clock,
        *,
        record: Callable[[], Record],
        hello: Callable[[], Hello],
        stamp: Callable[[], dict[str, Any]],
        backoff: Backoff,
        share: Callable[[], float],
    ) -> None:
        self._device, self._store, self._control, self._exchange, self._clock = device, store, control, exchange, clock
        self._record, self._hello, self._stamp, self._backoff, self._share = record, hello, stamp, backoff, share
        self._window_due, self._not_before, self._failures, self._full = 0.0, 0.0, 0, False
        self._log = Log("report", device_id=device)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._exchange.report_wanted.clear()
            self._draft_windows()
            delay_s = await self._send()
            self._exchange.completed("report")
            await self._clock.wait(self._exchange.report_wanted, delay_s)
        self._window_due = 0.0
        self._draft_windows()  # what was counted is not forgotten by a restart

    def note(self, code: str, detail: str) -> None:
        """Report an event of the device; where the disk takes no writes it is in the log alone."""
        record = self._record()
        body = {"kind": "event", "event": "device_error", "code": code, "detail": detail[:500]}
        try:
            self._store.add_reports([self._stamped(record, body, record.live)])
        except LocalFaultError as full:
            self._log.alarm("event_not_kept", code=full.code, about=code, detail=detail[:500])
        self._exchange.report_wanted.set()

    # -- windows

    def _draft_windows(self) -> None:
        now = self._clock.mono()
        if now < self._window_due or self._store.waiting() > MAX_WAITING:
            return
        self._window_due = now + self._interval_s()
        record, summaries = self._record(), self._exchange.take_summaries()
        drafts = [self._stamped(record, self._window(record, summary), summary.bundle_digest) for summary in summaries]
        if drafts:
            self._keep(drafts, summaries)

    def _keep(self, drafts: list[Draft], summaries: list[Summary]) -> None:
        try:
            self._store.add_reports(drafts)
        except LocalFaultError as full:
            self._exchange.give_back(summaries)
            (self._log.debug if self._full else self._log.alarm)("windows_not_kept", code=full.code, detail=str(full), remedy=full.remedy)
            self._full = True
            return
        if self._full:
            self._log("windows_kept_again")
        self._full = False

    def _interval_s(self) -> float:
        window_s = self._exchange.report_window_s
        return min(JUDGED_WINDOW_S, window_s) if self._record().state in _JUDGED else window_s

    def _window(self, record: Record, summary: Summary) -> dict[str, Any]:
        probation = record.state is State.PROBATION and summary.bundle_digest == record.target
        return {"kind": "window", **summary.body(), "probation": probation}

    def _stamped(self, record: Record, body: dict[str, Any], digest: str) -> Draft:
        return Draft(record.execution, {**body, "fence": record.fence, **self._stamp(), "bundle_digest": digest})

    # -- sending

    async def _send(self) -> float:
        """Seconds until the next pass."""
        while self._clock.mono() >= self._not_before and (pending := self._store.pending(MAX_REPORTS)):
            same = [one for one in pending if one.execution == pending[0].execution]
            try:
                await self._deliver(same)
            except SkerryError as failed:
                self._failed(failed)
        now = self._clock.mono()
        waits = self._not_before - now if self._failures else self._window_due - now
        return max(0.05, min(waits, self._interval_s()))

    async def _deliver(self, pending: list[PendingReport]) -> None:
        try:
            await self._send_some(pending)
        except RejectedError as refused:
            self._give_up(pending, refused)

    async def _send_some(self, pending: list[PendingReport]) -> None:
        """Reports of one execution."""
        reports = tuple(_REPORT.validate_python({**one.body, "execution": one.execution, "seq": one.seq}) for one in pending)
        batch = ReportBatch(device=self._device, hello=self._hello(), reports=reports)
        answer = await asyncio.to_thread(self._control.report, batch)
        known = answer.accepted.get(pending[0].execution, 0)
        self._store.confirm_reports({pending[0].execution: known})
        if self._failures:
            self._log("report_recovered", after=self._failures)
        self._failures, self._not_before = 0, 0.0
        if known < pending[0].seq:
            # The server took nothing of it: asking again at once would spin.
            self._not_before = self._clock.mono() + self._interval_s()

    def _give_up(self, refused: list[PendingReport], why: RejectedError) -> None:
        """The server will never take these (another site's executions, after a new enrolment): they must not block the rest."""
        self._log.alarm("reports_refused", execution_id=refused[0].execution, count=len(refused), code=why.code, detail=str(why))
        self._store.journal("reports_refused", {"execution": refused[0].execution, "seqs": [one.seq for one in refused], "code": why.code})
        self._store.confirm_reports({refused[0].execution: refused[-1].seq})

    def _failed(self, failed: SkerryError) -> None:
        self._failures += 1
        retry_after_s = failed.retry_after_s if isinstance(failed, TransientError) else None
        self._not_before = self._clock.mono() + self._backoff.delay_s(self._failures, self._share(), retry_after_s)
        if self._failures == 1:
            self._log("report_failed", code=failed.code, detail=str(failed))
