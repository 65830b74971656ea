"""The update loop: feeds events to core.update, makes the record durable, runs the work of the state.

Order of things: step -> save (record and reports, one transaction) -> work. What could not be saved has not happened: the event comes
again with a later pass, and what runs goes on. A work whose record moved on meanwhile is asked to stop and its outcome is dropped.
Transient failures are tried again with back-off; the state's deadline bounds them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from contracts.errors import LocalFaultError, SkerryError, TransientError, TrustError
from contracts.states import State
from edge_agent.adapters.blobs import StoppedError
from edge_agent.core.backoff import Backoff
from edge_agent.core.floors import with_epoch
from edge_agent.core.record import Record
from edge_agent.core.update import WORK, Done, Event, Fault, Note, Ordered, Refused, Report, Revert, Run, Start, Tick, gives_up, step
from edge_agent.loops.exchange import Exchange
from edge_agent.loops.works import Works
from edge_agent.ports import Draft, Store
from program.clock import Clock
from program.log import Log

PASS_S = 2.0  # a pass takes place at least this often: deadlines and the watchdog hang on it
TIDY_TRIES = 3  # failures of the incumbent at start before it is given up
DETAIL_CHARACTERS = 500  # of a report
NOT_ITS_FAULT = ("SETUP_STATE_DISK",)  # no reason to give an incumbent up
STUCK_S = 300.0  # a work that no deadline bounds (a roll back, tidying) and that takes longer hangs: a new life does it again
_Key = tuple[str, int, str, State]


class StuckError(RuntimeError):
    """A work hangs that nothing else ends."""


class UpdateLoop:
    def __init__(
        self,
        store: Store,
        works: Works,
        exchange: Exchange,
        clock: Clock,
        *,
        share: Callable[[], float],
        stamp: Callable[[], dict[str, Any]],
        stuck_s: float = STUCK_S,
    ) -> None:
        """`share` is uniform in [0, 1); `stamp` gives boot_id, mono_ms and utc of now, for reports."""
        self._store, self._works, self._exchange, self._clock = store, works, exchange, clock
        self._share, self._stamp, self._stuck_s = share, stamp, stuck_s
        self.record = store.record()
        self._log = Log("update")
        self._backoff = Backoff()
        self._task: asyncio.Task[Event | None] | None = None
        self._working: _Key | None = None  # what the task works on
        self._finished: _Key | None = None  # the work of this key is done or waits for an order
        self._counted: _Key | None = None  # the attempt of this key was counted at start
        self._began_mono_s = 0.0
        self._failures, self._not_before = 0, 0.0
        self._revert: Revert | None = None
        self._unsaved = ""  # why the record could not be saved, "" once it could
        self._barred: tuple[str, Revert] | None = None  # an incumbent, and its local revert that had nowhere to go

    async def restore(self) -> None:
        """Bring the live model back, before anything else. What fails here is answered by the table, not by a crash."""
        with contextlib.suppress(LocalFaultError):  # on a full disk the model answers all the same
            self._count_start()
        try:
            await self._works.restore(self.record)
        except SkerryError as failed:
            self._log.alarm("restore_failed", bundle_digest=self.record.live, code=failed.code, detail=str(failed))
            if isinstance(failed, TrustError):
                self._give_up(failed)

    def _count_start(self) -> None:
        """First of all: a model that takes the machine down while it loads must not do so for ever."""
        if (given_up := gives_up(self.record)) is not None:
            self._go_back(given_up)
        if self.record.live and (self.record.terminal or self.record.state is State.PROBATION):
            self._apply(Start())
            self._counted = self._key()

    def _give_up(self, failed: SkerryError) -> None:
        """The live model cannot run any more: in probation that is a refusal, later a local roll back."""
        if self.record.state is State.PROBATION:
            self._apply(Refused(failed.code, str(failed)))
        elif self.record.state is not State.ROLLING_BACK:
            self._revert = Revert(failed.code, str(failed))

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._pass()
            except LocalFaultError as unsaved:  # of the store; a work's own are its outcome
                await self._wait_for_the_disk(unsaved)
            self._exchange.completed("update")
        with contextlib.suppress(LocalFaultError):  # an outcome that cannot be saved: its work runs again after the next start
            await self._end_task()

    async def _pass(self) -> None:
        self._exchange.update_wanted.clear()
        await self._collect()
        self._check_progress()
        self._take_events()
        if self._task and self._working != self._key():
            await self._end_task()
        if self._may_begin():
            self._begin()
        if self._task is None or not self._task.done():
            await self._clock.wait(self._exchange.update_wanted, self._patience_s())

    async def _wait_for_the_disk(self, unsaved: LocalFaultError) -> None:
        if not self._unsaved:
            self._log.alarm("record_not_saved", code=unsaved.code, detail=str(unsaved), remedy=unsaved.remedy)
        self._unsaved = unsaved.code
        await self._clock.wait(self._exchange.update_wanted, PASS_S)

    def _check_progress(self) -> None:
        """Raises StuckError, which ends the process; the supervisor starts the next life."""
        endless = self.record.terminal or self.record.state is State.ROLLING_BACK
        if self._task is not None and endless and self._clock.mono() - self._began_mono_s > self._stuck_s:
            self._works.stopping.set()  # a thread that hears it does not hold up the end
            raise StuckError(f"the work of {self.record.state.value} has hung for {self._stuck_s} s")

    def _key(self) -> _Key:
        return (self.record.execution, self.record.fence, self.record.kind, self.record.state)

    def _patience_s(self) -> float:
        waits = self._not_before - self._clock.mono()
        return min(PASS_S, waits) if self._task is None and waits > 0 else PASS_S

    # -- events

    def _take_events(self) -> None:
        if self._exchange.order is not None:
            self._raise_floor(self._exchange.order.epoch_floor)
            self._apply(Ordered(self._exchange.order))
        self._apply(Tick(self._clock.utc().timestamp()))
        while self._exchange.deaths:
            death = self._exchange.deaths[0]
            detail = f"{death.code}: return code {death.returncode}"
            if death.digest == self.record.target and self.record.state in (State.SHADOWING, State.PROBATION):
                self._apply(Refused(death.code, detail))
            elif death.circuit_open and death.digest == self.record.confirmed:
                self._revert = Revert("WORKER_CIRCUIT_OPEN", detail)
            self._exchange.deaths.popleft()
        if self._revert and self.record.terminal:
            self._go_back(self._revert)
            self._revert = None

    def _raise_floor(self, epoch: int) -> None:
        """Before the order is judged, and for good: who takes the director over later cannot lower it again."""
        floors = self._store.floors()
        if epoch > floors.security_epoch:
            self._store.set_floors(with_epoch(floors, epoch))

    def _go_back(self, revert: Revert) -> None:
        revert = replace(revert, barred=self._works.barred(self.record.history))
        before = self.record
        if (before.confirmed, revert) == self._barred:
            return  # that was told
        self._apply(revert)
        self._barred = (before.confirmed, revert) if self.record == before else None

    def _apply(self, event: Event) -> tuple[Run, ...]:
        before = self.record
        record, effects = step(before, event)
        if record == before and not effects:
            return ()
        drafts = [draft for effect in effects if (draft := self._draft(record, effect))]
        self._store.save(record, drafts)
        self.record = record
        self._note_saved()
        if record.state is not before.state or record.execution != before.execution:
            self._moved(before)
        if drafts:
            self._exchange.report_wanted.set()
        return tuple(effect for effect in effects if isinstance(effect, Run))

    def _note_saved(self) -> None:
        if self._unsaved:
            self._log("record_saved_again", after=self._unsaved)
        self._unsaved = ""

    def _moved(self, before: Record) -> None:
        self._failures, self._not_before = 0, 0.0
        self._log(
            "update_state",
            was=before.state.value,
            state=self.record.state.value,
            execution_id=self.record.execution,
            bundle_digest=self.record.target,
            code=self.record.code,
            detail=self.record.detail,
        )
        self._store.journal(
            "update_state", {"state": self.record.state.value, "execution": self.record.execution, "code": self.record.code}
        )

    def _draft(self, record: Record, effect: object) -> Draft | None:
        if isinstance(effect, Report):
            body = {
                "kind": "transition",
                "state": effect.state.value,
                "code": effect.code,
                "detail": effect.detail[:DETAIL_CHARACTERS],
                "local": effect.local,
                "fence": effect.fence,
            }
            return Draft(effect.execution, {**body, **self._stamp(), "bundle_digest": record.live})
        if isinstance(effect, Note):
            detail = effect.detail[:DETAIL_CHARACTERS]
            body = {"kind": "event", "event": effect.event, "code": effect.code, "detail": detail, "fence": record.fence}
            return Draft(record.execution, {**body, **self._stamp(), "bundle_digest": record.live})
        return None

    # -- work

    def _may_begin(self) -> bool:
        return self._task is None and self._finished != self._key() and self._clock.mono() >= self._not_before

    def _begin(self) -> None:
        for effect in self._start():
            self._works.stopping.clear()
            self._working, self._began_mono_s = self._key(), self._clock.mono()
            self._task = asyncio.ensure_future(self._outcome(effect, self.record))
            self._task.add_done_callback(lambda _: self._exchange.update_wanted.set())
        if self._task is None:  # attempts used up: the table moved on, and the next pass goes with it
            self._exchange.update_wanted.set()

    def _start(self) -> tuple[Run, ...]:
        """Tidying is tried until it is done: there only starts of the agent count."""
        if self.record.terminal or self._counted == self._key():
            self._counted = None
            return (Run(WORK[self.record.state]),)
        return self._apply(Start())

    async def _outcome(self, effect: Run, record: Record) -> Event | None:
        try:
            await self._works.run(effect.work, record)
        except StoppedError:
            return None
        except TransientError as later:
            self._wait_after(later, later.retry_after_s)
            return None
        except SkerryError as failed:
            return self._failure(record, failed)
        return Done()

    def _failure(self, record: Record, failed: SkerryError) -> Event | None:
        if isinstance(failed, TrustError):
            self._log.alarm("trust_error", execution_id=record.execution, code=failed.code, detail=str(failed))
        if record.terminal or record.state is State.ROLLING_BACK:
            self._wait_after(failed, None)
            if record.terminal and self._failures >= TIDY_TRIES and failed.code not in NOT_ITS_FAULT:
                self._revert = Revert(failed.code, str(failed))
            return None
        kind = Fault if isinstance(failed, LocalFaultError) else Refused
        return kind(failed.code, str(failed))

    def _wait_after(self, failed: SkerryError, retry_after_s: float | None) -> None:
        self._failures += 1
        delay_s = self._backoff.delay_s(self._failures, self._share(), retry_after_s)
        self._not_before = self._clock.mono() + delay_s
        report = self._log if self._failures == 1 else self._log.debug
        report("work_failed", state=self.record.state.value, code=failed.code, detail=str(failed), again_in_s=round(delay_s, 2))

    async def _collect(self) -> None:
        """Take the outcome of a finished work; an unforeseen exception goes up and ends the process."""
        if self._task is None or not self._task.done():
            return
        task, self._task = self._task, None
        event = task.result()
        if event is not None and self._working == (key := self._key()):
            self._apply(event)
            if isinstance(event, Done):
                self._finished = key
                self._failures = 0

    async def _end_task(self) -> None:
        """Ask the running work to stop and wait for it: two works at once would stand on each other's feet."""
        self._works.stop()
        self._exchange.windows_came.set()
        if self._task is not None:
            await asyncio.wait([self._task])
            await self._collect()
