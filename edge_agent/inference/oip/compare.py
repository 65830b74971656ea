"""Whether two models gave the same answer to one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.inference.client import Array
from processing import pipeline
from processing.answers import shift
from processing.pipeline import Processing
from processing.spec import SpecError

Route = Mapping[str, Any]  # of contracts/pipeline.py


class Verdict(NamedTuple):
    agreed: bool
    shift: float | None  # by how much the candidate's score is the larger one


NO_ANSWER = Verdict(False, None)  # where the live model had one


class Comparison:
    """By the bundles' own processing, as pipeline and packaging do it: the agreement that a campaign expects was measured so.

    Where it does not fit both models, by the largest element of each row.
    """

    def __init__(self, live: Route, shadow: Route) -> None:
        self._live, self._shadow = _processing(live), _processing(shadow)

    def __call__(self, one: Array, other: Array) -> Verdict | None:
        """None: these cannot be compared."""
        if self._live is None or self._shadow is None:
            return by_largest(one, other)
        answers = self._live.post(one), self._shadow.post(other)
        return Verdict(self._live.agree(*answers), shift(*answers))


def by_largest(one: Array, other: Array) -> Verdict | None:
    """A single value is always the largest, so it proves nothing."""
    if one.shape != other.shape or one.ndim == 0 or one.shape[-1] < 2:
        return None
    return Verdict(bool((one.argmax(-1) == other.argmax(-1)).all()), float(other.max()) - float(one.max()))


def _processing(route: Route) -> Processing | None:
    try:
        processing = pipeline.compile(pipeline.read((Path(route["slot"]) / "processing.json").read_bytes()))
        processing.check(route["input"]["shape"], route["output"]["shape"])
    except (OSError, KeyError, SpecError):
        return None
    return processing
