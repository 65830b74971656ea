"""Steps of a loop that come again anyway: what cannot be done now ends nothing, and is told once, as is the recovery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from contracts.errors import TransientError
from program.log import Log

T = TypeVar("T")


class Attempts:
    """One for each loop."""

    def __init__(self, log: Log, step: str) -> None:
        self._log, self._step, self._failing = log, step, ""

    def __call__(self, step: Callable[[], T]) -> T | None:
        """What `step` returns; None when it raised a TransientError. Blocks."""
        try:
            result = step()
        except TransientError as failed:
            self._failed(failed)
            return None
        if self._failing:
            self._log("control_recovered", step=self._step, code=self._failing)
            self._failing = ""
        return result

    def _failed(self, failed: TransientError) -> None:
        if failed.code != self._failing:
            self._log.alarm("control_waits", step=self._step, code=failed.code, detail=str(failed), remedy=failed.remedy)
        self._failing = failed.code
