"""What ingest refuses, told to the operators: `POST /internal/v1/alarms` of the control plane.

Refusals come in ingest's thread, as fast as a forger likes; telling may block on the network. So they are only counted there, and
told from a task beside it: each kind at once the first time, then at most once a minute with the count. A control plane that is
away hears of them when it is back. They are not durable: ingest's own log has each of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import urllib3

from contracts.errors import SkerryError, error
from contracts.operator import MAX_ALARMS, ServiceAlarm, ServiceAlarms
from program.clock import Clock
from program.log import Log
from program.tally import Tally, Told

LOOK_S, PAUSE_S = 0.5, 60.0
_Key = tuple[str, str]  # code, device


class Alarms:
    """`tell` blocks; it raises TransientError INGEST_FEED when it does not get through."""

    def __init__(self, tell: Callable[[ServiceAlarms], None], clock: Clock) -> None:
        self._tell, self._clock, self._lock = tell, clock, threading.Lock()
        self._tally: Tally[_Key] = Tally(PAUSE_S, other=("INGEST_IDENTITY", ""), limit=MAX_ALARMS - 1)
        self._log, self._heard = Log("alarms"), True

    def note(self, refused: SkerryError, device: str) -> None:
        """`device`: whose topic it came on, "" when it was none. From any thread, never blocks."""
        with self._lock:
            self._tally.count((refused.code, device), str(refused))

    async def run(self, stop: asyncio.Event) -> None:
        while not await self._clock.wait(stop, LOOK_S):
            await asyncio.to_thread(self.tell)

    def tell(self) -> None:
        """Tell what is due; blocks."""
        with self._lock:
            due = self._tally.due(self._clock.mono())
        if not due:
            return
        try:
            self._tell(ServiceAlarms(alarms=tuple(_alarm(told) for told in due)))
        except SkerryError as silent:
            self._later(due, silent)
        else:
            self._heard = True

    def _later(self, due: list[Told[_Key]], silent: SkerryError) -> None:
        if self._heard:
            self._log("alarms_wait", code=silent.code, detail=str(silent))
        self._heard = False
        with self._lock:
            for told in due:
                self._tally.not_told(told)


def _alarm(told: Told[_Key]) -> ServiceAlarm:
    code, device = told.key
    return ServiceAlarm(code=code, device=device, detail=told.detail[:500], count=told.count)


def post(pool: urllib3.PoolManager, control_url: str) -> Callable[[ServiceAlarms], None]:
    """`tell` over HTTPS. `pool` carries the service's certificate."""
    url = control_url.rstrip("/") + "/internal/v1/alarms"

    def tell(alarms: ServiceAlarms) -> None:
        headers = {"Content-Type": "application/json"}
        try:
            answer = pool.request("POST", url, body=alarms.model_dump_json().encode(), headers=headers)
        except urllib3.exceptions.HTTPError as failed:
            raise error("INGEST_FEED", url, str(failed)) from failed
        if answer.status != 204:
            raise error("INGEST_FEED", url, f"answer {answer.status}")

    return tell
