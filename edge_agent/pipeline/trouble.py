"""Why frames cannot be used: said once, with its reason, until one can be again."""

from __future__ import annotations

from program.log import Log

SAID = {  # code -> the line of the log when it begins, and when it is over
    "FRAME_SOURCE": ("frames_missing", "frames_come_again"),
    "FRAME_SHAPE": ("frames_unfit", "frames_fit_again"),
}


class Trouble:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._there: set[str] = set()

    def met(self, code: str, detail: str, frame_no: int) -> None:
        if code not in self._there:
            self._log.alarm(SAID[code][0], code=code, detail=detail, frame_no=frame_no)
        self._there.add(code)

    def over(self, code: str, frame_no: int) -> None:
        if code in self._there:
            self._log(SAID[code][1], frame_no=frame_no)
        self._there.discard(code)
