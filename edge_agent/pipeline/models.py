"""A loaded model as the pipeline sees it: a seat in its arena, its processing, its row form. And one frame through live and shadow."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import SkerryError
from contracts.pipeline import LIVE_LANE, WINDOW_LANE
from edge_agent.inference.client import FAULTS_OF_A_MODEL, Answer, Client, Ticket
from edge_agent.pipeline.folding import origins
from edge_agent.pipeline.outgoing import Origin
from processing import pipeline, windows
from processing.rows import RowMaker
from processing.spec import FrameUnfitError

Array = Any


class Model:
    """Opened from a `route` of contracts/pipeline.py and its three descriptors, which it owns."""

    def __init__(self, route: Mapping[str, Any], descriptors: tuple[int, int, int]) -> None:
        """Raises OSError or ValueError when the slot or the arena is not what the route says; SpecError for its processing."""
        self.digest, self.name = str(route["digest"]), f"{route['name']}-{route['number']}"
        self.spec = pipeline.read((Path(route["slot"]) / "processing.json").read_bytes())
        self.processing = pipeline.compile(self.spec)
        self.processing.check(route["input"]["shape"], route["output"]["shape"])
        self.row = RowMaker(route["columns"], self.processing.keys)
        self.origin = Origin(LIVE_LANE, str(route["schema_id"]), self.digest)
        self.windows = windows.compile(self.spec, route["columns"])
        self.frames_leave = windows.frames_leave(self.spec)
        self.window_origins = origins(self.windows, route["windows"], self.digest, WINDOW_LANE)
        self.client = Client(route["arena"], route["input"], route["output"], descriptors)

    def close(self) -> None:
        self.client.close()


def open_routes(routes: Sequence[Mapping[str, Any] | None], descriptors: Callable[[int], list[int]]) -> list[Model | None]:
    """One for each route, None for none. `descriptors` gives the next ones that came.

    Raises OSError, ValueError or KeyError; then nothing of them stays open.
    """
    wanted = [route for route in routes if route is not None]
    left, opened = descriptors(3 * len(wanted)), list[Model]()
    try:
        for route in wanted:
            memfd, request_fd, response_fd = left[:3]
            opened.append(Model(route, (memfd, request_fd, response_fd)))
            del left[:3]
    except (OSError, ValueError, KeyError):
        for model in opened:
            model.close()
        for descriptor in left:
            os.close(descriptor)
        raise
    models = iter(opened)
    return [None if route is None else next(models) for route in routes]


@dataclass(frozen=True)
class Seen:
    """What became of one frame. `code` says why there is no live answer; a missing shadow answer refuses nothing."""

    answer: Answer | None = None
    label: Mapping[str, Any] | None = None  # the post-processed answer; None when there is none or it is not finite
    code: str = ""
    detail: str = ""  # of FRAME_SHAPE
    shadow_answer: Answer | None = None
    shadow_label: Mapping[str, Any] | None = None
    shadow_failed: bool = False  # by its own fault: refused, crashed, not finite, no use for the frame


def infer(frame: Array, live: Model, shadow: Model | None, deadline_ns: int) -> Seen:
    """One frame through both models at once; both answers are waited for until the same deadline (CLOCK_MONOTONIC)."""
    try:
        values = live.processing.pre(frame)
        unfit = _unfit(values, live)
    except (FrameUnfitError, MemoryError) as why:
        unfit = str(why) or "there is no memory for it"
    if unfit:
        return Seen(code="FRAME_SHAPE", detail=f"{live.name} has no use for a frame of {' x '.join(map(str, frame.shape))}: {unfit}")
    try:
        ticket = live.client.submit(values, deadline_ns)
    except SkerryError as refused:
        return Seen(code=refused.code)
    shadow_ticket, shadow_unfit = _submit_shadow(frame, values, live, shadow, deadline_ns)
    try:
        answer = live.client.collect(ticket)
    except SkerryError as refused:
        _collect(shadow, shadow_ticket)
        return Seen(code=refused.code)
    other, code = _collect(shadow, shadow_ticket)
    failed = shadow_unfit or code in FAULTS_OF_A_MODEL or (other is not None and not other.finite)
    return Seen(answer, _label(live, answer, frame), shadow_answer=other, shadow_label=_label(shadow, other, frame), shadow_failed=failed)


def _unfit(values: Array, model: Model) -> str:
    """Why this is no input of the model, "" if it is one."""
    wanted = model.client.input_shape
    return "" if values.shape == wanted else f"it becomes {values.shape}, the model takes {wanted}"


def _submit_shadow(frame: Array, values: Array, live: Model, shadow: Model | None, deadline_ns: int) -> tuple[Ticket | None, bool]:
    """And whether it has no use for this frame, which the live model has."""
    if shadow is None:
        return None, False
    try:
        values = values if shadow.spec == live.spec else shadow.processing.pre(frame)
        if _unfit(values, shadow):
            return None, True
        return shadow.client.submit(values, deadline_ns), False
    except FrameUnfitError:
        return None, True
    except (SkerryError, MemoryError):
        return None, False


def _collect(model: Model | None, ticket: Ticket | None) -> tuple[Answer | None, str]:
    """And why there is none."""
    if model is None or ticket is None:
        return None, ""
    try:
        return model.client.collect(ticket), ""
    except SkerryError as refused:
        return None, refused.code


def _label(model: Model | None, answer: Answer | None, frame: Array) -> Mapping[str, Any] | None:
    if model is None or answer is None or not answer.finite:
        return None
    return model.processing.post(answer.output, model.processing.view(frame.shape))
