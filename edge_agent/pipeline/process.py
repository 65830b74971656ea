"""The pipeline's one loop: frames by their due times, rows and windows to the agent, routes from it.

A frame is due every 1/fps seconds of CLOCK_MONOTONIC and is counted then, whatever becomes of it. It is given up at its due time plus
`deadline_frames` frame times; frames that are already that late when their turn comes are refused without inference. So no frame is
skipped unseen, and a dead worker delays nothing for longer than that.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any

from contracts.pipeline import LIVE_LANE, WINDOW_LANE
from edge_agent.pipeline.agent_stream import AgentStream
from edge_agent.pipeline.counters import Count, Counters
from edge_agent.pipeline.folding import FeatureWindows, Leaving
from edge_agent.pipeline.models import Model, Seen, infer, open_routes
from edge_agent.pipeline.outgoing import Outcome, Outgoing
from edge_agent.pipeline.sources import FrameError, Source, open_source
from edge_agent.pipeline.trouble import Trouble
from edge_agent.pipeline.windows import Window
from firmware_profiles import telemetry
from processing.answers import shift
from processing.spec import SpecError
from processing.windows import Moment
from program.log import Log

WINDOW_S = 1.0
LAST_ANSWERS_S = 2.0  # how long a stopping pipeline waits for the answer to its last rows
Array = Any


class Process:
    def __init__(self, stream: socket.socket, counters: Counters) -> None:
        self._agent, self._counters = AgentStream(stream), counters
        self._outgoing, self._window_rows = Outgoing(), Outgoing()
        self._lanes = {LIVE_LANE: self._outgoing, WINDOW_LANE: self._window_rows}
        self._features = FeatureWindows((), (), Moment(0, 0, 0))
        self._live: Model | None = None
        self._shadow: Model | None = None
        self._source: Source | None = None
        self._source_values: Mapping[str, Any] = {}
        self._log = Log("pipeline")
        self._trouble = Trouble(self._log)
        self._period_s, self._deadline_s, self._due_s = 0.05, 0.1, 0.0
        self._window, self._window_due_s = Window(time.monotonic()), float("inf")
        self._cpu_of, self._cpu_us = 0, 0  # the live worker's pid and its CPU time at the last window
        self.stopping = False

    def run(self) -> None:
        """Until the agent says stop, SIGTERM sets `stopping`, or the agent is gone."""
        self._agent.send({"kind": "hello", "frame_no": self._counters.get(Count.FRAMES)})
        while not (self.stopping or self._agent.gone):
            self._listen(self._next_due_s())
            self._pass(time.monotonic())
        self._finish()

    # -- one pass

    def _pass(self, now_s: float) -> None:
        if self._live is not None and now_s >= self._due_s:
            self._frame(now_s)
        self._leave(self._features.until(self._now()))
        self._request()
        if now_s >= self._window_due_s:
            self._close_window(now_s)

    def _next_due_s(self) -> float:
        frame_s = self._due_s if self._live is not None else float("inf")
        return min(frame_s, self._window_due_s, *(rows.due_s() for rows in self._lanes.values()))

    def _request(self) -> None:
        """Of each lane the rows whose turn it is."""
        for rows in self._lanes.values():
            request = rows.next_request(time.monotonic())
            if request is not None:
                self._agent.send(request)

    def _frame(self, now_s: float) -> None:
        """The frame that is due."""
        due_s, self._due_s = self._due_s, self._due_s + self._period_s
        frame_no = self._counters.add(Count.FRAMES)
        self._window.frames += 1
        if now_s > due_s + self._deadline_s:
            self._refuse("FRAME_LATE")
            return
        frame = self._take(frame_no)
        if frame is None or self._live is None:
            self._refuse("FRAME_SOURCE")
            return
        taken_us, taken_utc_us = time.monotonic_ns() // 1000, time.time_ns() // 1000
        seen = infer(frame, self._live, self._shadow, int((due_s + self._deadline_s) * 1e9))
        self._note(seen, self._live, frame_no)
        if seen.label is None:
            self._refuse(seen.code or "WORKER_NOT_FINITE")
            return
        row = self._live.row(frame_no, taken_utc_us, taken_us, seen.label)
        if not self._live.frames_leave:
            self._counters.add(Count.KEPT)
        elif code := self._outgoing.add(self._live.origin, row, time.monotonic()):
            self._refuse(code)
        self._leave(self._features.add(row))

    def _take(self, frame_no: int) -> Array | None:
        """None when there is none. Why is said once, until a frame comes again."""
        try:
            frame = self._source.take(frame_no) if self._source is not None else None
        except FrameError as missing:
            self._trouble.met("FRAME_SOURCE", str(missing), frame_no)
            return None
        self._trouble.over("FRAME_SOURCE", frame_no)
        return frame

    def _note(self, seen: Seen, live: Model, frame_no: int) -> None:
        if seen.code == "FRAME_SHAPE":
            self._trouble.met(seen.code, seen.detail, frame_no)
        else:
            self._trouble.over("FRAME_SHAPE", frame_no)
        if seen.answer is not None:
            self._window.answered(seen.answer.compute_us)
            self._window.not_finite += not seen.answer.finite
        if seen.shadow_answer is not None:
            self._window.shadow_answered(seen.shadow_answer.compute_us)
        if seen.label is not None and seen.shadow_failed:
            self._window.pair(False, None)
        elif seen.label is not None and seen.shadow_label is not None:
            self._window.pair(live.processing.agree(seen.label, seen.shadow_label), shift(seen.label, seen.shadow_label))

    def _refuse(self, code: str, frames: int = 1) -> None:
        self._counters.add(Count.REFUSED, frames)
        self._window.refuse(code, frames)

    # -- the agent's messages

    def _listen(self, until_s: float) -> None:
        """Wait for the agent until `until_s` (monotonic) and act on what came."""
        for message in self._agent.messages(until_s):
            self._act(message)

    def _act(self, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "answer":
            self._note_answer(message["lane"], self._lanes[message["lane"]].answered(message, time.monotonic()))
        elif kind == "routes":
            self._switch(message)
        elif kind == "stop":
            self.stopping = True

    def _note_answer(self, lane: str, outcome: Outcome) -> None:
        if lane == WINDOW_LANE:
            self._note_lost(outcome.code, outcome.refused)
            return
        self._window.accepted += outcome.accepted  # the agent has counted them in the shared file
        if outcome.refused:
            self._refuse(outcome.code, outcome.refused)

    def _switch(self, message: Mapping[str, Any]) -> None:
        """Take the new routes; the next frame goes by them. A bundle that cannot be worked with leaves the old ones."""
        try:
            live, shadow = open_routes((message["live"], message["shadow"]), self._agent.descriptors)
        except (OSError, ValueError, KeyError) as unfit:
            code = "BUNDLE_PROCESSING" if isinstance(unfit, SpecError) else "BUNDLE_SELF_TEST"
            self._agent.send({"kind": "routed", "route_no": message["route_no"], "code": code, "detail": repr(unfit)})
            return
        now_s = time.monotonic()
        self._outgoing.cut()
        self._close_window(now_s)
        self._fold_anew(live)
        self._take_source(message["source"])
        if self._live is None:
            self._due_s = now_s
        for model in (self._live, self._shadow):
            if model is not None:
                model.close()
        self._live, self._shadow = live, shadow
        self._window = Window(now_s, live.digest if live else "", shadow.digest if shadow else "")
        self._window_due_s = now_s + WINDOW_S if live else float("inf")
        self._cpu_of = 0
        self._worker_cpu_us()
        self._agent.send({"kind": "routed", "route_no": message["route_no"], "first_frame_no": self._counters.get(Count.FRAMES)})

    def _take_source(self, values: Mapping[str, Any]) -> None:
        if self._source is None or values != self._source_values:
            if self._source is not None:
                self._source.close()
            self._source, self._source_values = open_source(values), values
        self._period_s = 1 / float(values.get("fps", 20))
        self._deadline_s = float(values.get("deadline_frames", 2)) * self._period_s

    # -- windows of features

    def _now(self) -> Moment:
        """Of the next frame at the earliest."""
        return Moment(self._counters.get(Count.FRAMES), time.time_ns() // 1000, time.monotonic_ns() // 1000)

    def _fold_anew(self, live: Model | None) -> None:
        """A window is of one bundle; a shadow that comes or goes does not touch it."""
        if live is not None and self._live is not None and live.digest == self._live.digest:
            return
        self._leave(self._features.end())
        self._features = FeatureWindows(live.windows, live.window_origins, self._now()) if live else FeatureWindows((), (), self._now())

    def _leave(self, finished: Leaving) -> None:
        for origin, row in finished:
            if code := self._window_rows.add(origin, row, time.monotonic()):
                self._note_lost(code, 1)

    def _note_lost(self, code: str, rows: int) -> None:
        if rows:
            self._counters.add(Count.WINDOW_ROWS_REFUSED, rows)
            self._window.window_rows_refused += rows
            self._log.alarm("window_rows_refused", code=code, rows=rows)

    # -- windows of counters

    def _close_window(self, now_s: float) -> None:
        """Send what the window holds, if anything, and open the next one."""
        if not self._window.empty():
            self._agent.send(self._window.message(now_s, self._worker_cpu_us(), self._totals()))
        live, shadow = self._live, self._shadow
        self._window = Window(now_s, live.digest if live else "", shadow.digest if shadow else "")
        self._window_due_s = now_s + WINDOW_S if live else float("inf")

    def _worker_cpu_us(self) -> int:
        """The live worker's CPU time since the last call; a new worker starts from zero."""
        pid = self._live.client.worker_pid() if self._live else 0
        used_us = telemetry.cpu_us(pid) if pid else None
        if used_us is None:
            return 0
        before_us = self._cpu_us if pid == self._cpu_of else used_us
        self._cpu_of, self._cpu_us = pid, used_us
        return used_us - before_us

    def _totals(self) -> dict[str, int]:
        count = self._counters.get
        return {
            "frames_total": count(Count.FRAMES),
            "accepted_total": count(Count.ACCEPTED),
            "refused_total": count(Count.REFUSED),
            "pending": self._outgoing.pending(),
        }

    # -- the end

    def _finish(self) -> None:
        """Hand over the last rows and the last windows. What stays pending the agent counts as refused: only it knows what it accepted."""
        self._leave(self._features.end())
        for rows in self._lanes.values():
            rows.cut()
        until_s = time.monotonic() + LAST_ANSWERS_S
        while any(rows.pending() for rows in self._lanes.values()) and not self._agent.gone and time.monotonic() < until_s:
            self._request()
            self._listen(min(until_s, *(rows.due_s() for rows in self._lanes.values())))
        self._note_lost("PIPELINE_ENDED", self._window_rows.unsent())  # of a request on its way only the agent knows
        if not self._agent.gone:
            self._close_window(time.monotonic())
