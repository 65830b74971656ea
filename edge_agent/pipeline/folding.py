"""The windows of one bundle on the device: rows of frames in, rows of windows out, each with its origin. Pure; time is handed in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edge_agent.pipeline.outgoing import Origin
from processing.spec import SpecError
from processing.windows import Folding, Moment, Window

Leaving = Iterator[tuple[Origin, list[Any]]]
_FRAME_COLUMNS = len(Moment._fields)


def origins(windows: Sequence[Window], signed: Sequence[Mapping[str, Any]], digest: str, lane: str) -> list[Origin]:
    """One for each window. `signed`: the route's `windows`. Raises SpecError when processing.json says other ones than the manifest's."""
    if [window.columns for window in windows] != [list(schema["columns"][_FRAME_COLUMNS:]) for schema in signed]:
        raise SpecError("the windows are not those of the manifest")
    return [Origin(lane, str(schema["schema_id"]), digest) for schema in signed]


class FeatureWindows:
    def __init__(self, windows: Sequence[Window], origins: Sequence[Origin], began: Moment) -> None:
        """`began`: the first frame that may come is not before it."""
        self._foldings = [(origin, Folding(window, began)) for origin, window in zip(origins, windows, strict=True)]

    def add(self, row: Sequence[Any]) -> Leaving:
        return _finished([(origin, folding.add(row)) for origin, folding in self._foldings])

    def until(self, moment: Moment) -> Leaving:
        """Windows that have ended, although no frame came after them."""
        return _finished([(origin, folding.until(moment)) for origin, folding in self._foldings])

    def end(self) -> Leaving:
        """All that is open, as it is."""
        return _finished([(origin, folding.end()) for origin, folding in self._foldings])


def _finished(found: Iterable[tuple[Origin, list[Any] | None]]) -> Leaving:
    return ((origin, row) for origin, row in found if row is not None)
