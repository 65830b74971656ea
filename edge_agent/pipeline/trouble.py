"""Why frames cannot be used: said once for each reason until one can be again; a folder of broken files has a few reasons, not all."""

from __future__ import annotations

from program.log import Log

SAID = {  # code -> the line of the log when it begins, and when it is over
    "FRAME_SOURCE": ("frames_missing", "frames_come_again"),
    "FRAME_SHAPE": ("frames_unfit", "frames_fit_again"),
}


MOST_REASONS = 3


class Trouble:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._told: dict[str, set[str]] = {}  # code -> reasons

    def met(self, code: str, detail: str, frame_no: int) -> None:
        told = self._told.setdefault(code, set())
        if detail not in told and len(told) < MOST_REASONS:
            told.add(detail)
            self._log.alarm(SAID[code][0], code=code, detail=detail, frame_no=frame_no)

    def over(self, code: str, frame_no: int) -> None:
        if self._told.pop(code, None):
            self._log(SAID[code][1], frame_no=frame_no)
