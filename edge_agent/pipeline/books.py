"""The agent's books of its pipeline: the counters that both share, what windows have told of them, and what none could tell any more."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.pipeline.counters import Count, Counters, open_file
from edge_agent.pipeline.windows import Window

TOLD = {  # counter -> its name in a window, which holds what was added since the last one
    Count.FRAMES: "frames",
    Count.ACCEPTED: "accepted_rows",
    Count.REFUSED: "refused",
    Count.WINDOW_ROWS_REFUSED: "window_rows_refused",
}
FIGURES = {**TOLD, Count.KEPT: "kept"}


class Books:
    def __init__(self, file: Path) -> None:
        """Opens nothing. Until `open`, and after `close`, they can be read, and what is written is lost."""
        self.descriptor = -1  # of the file, for the pipeline to share
        self.refusals: Counter[str] = Counter()  # code -> frames, since the agent started
        self._file = file
        self._counters: Counters | None = None
        self._told = dict.fromkeys(TOLD, 0)  # since the agent started
        self._figures = dict.fromkeys((*FIGURES.values(), "pending"), 0)

    def open(self, ledger: int | None) -> bool:
        """Join the file that an earlier agent left. False: it was of another ledger, and begins anew.

        `ledger`: the accepted rows of lane live, if somebody keeps them. With it those count, too, that were durable when an agent was
        killed, and not counted yet.
        """
        self.descriptor, new = open_file(self._file)
        self._counters = Counters(self.descriptor)
        joined = ledger is None or self._join(self._counters, ledger, new)
        self._told = {which: self._counters.get(which) for which in TOLD}
        return joined

    @staticmethod
    def _join(counters: Counters, ledger: int, new: bool) -> bool:
        counted = counters.get(Count.LEDGER_BASE) + counters.get(Count.ACCEPTED)
        foreign = not new and ledger < counted  # the state folder is another one: the device was enrolled anew
        if foreign:
            counters.clear()
        if new or foreign:
            counters.set(Count.LEDGER_BASE, ledger)
        counters.set(Count.ACCEPTED, ledger - counters.get(Count.LEDGER_BASE))
        return not foreign

    def close(self) -> None:
        if self._counters is not None:
            self.figures()
            self._counters.close()
            os.close(self.descriptor)
            self._counters = None

    def accepted(self, rows: int) -> None:
        if self._counters is not None:
            self._counters.add(Count.ACCEPTED, rows)

    def told(self, window: Mapping[str, Any]) -> None:
        """A window that was passed on."""
        self.refusals.update(window["refusals"])
        for which, name in TOLD.items():
            self._told[which] += window[name]

    def settle(self, code: str, window: Window, now_s: float) -> dict[str, Any] | None:
        """No pipeline runs: what is pending will never be accepted, and is refused. `window` with what none has told, if anything."""
        counters = self._counters
        if counters is None:
            return None
        pending = counters.pending()
        if pending > 0:
            counters.add(Count.REFUSED, pending)
        untold = {name: counters.get(which) - self._told[which] for which, name in TOLD.items()}
        window.frames, window.accepted = untold["frames"], untold["accepted_rows"]
        window.window_rows_refused = untold["window_rows_refused"]
        window.refuse(code, untold["refused"])
        return window.message(now_s, 0, _totals(counters)) if any(untold.values()) else None

    def figures(self) -> dict[str, int]:
        """Since the run folder was made: frames = accepted_rows + refused + kept + pending; and the refused rows of feature windows."""
        if self._counters is not None:
            self._figures = {name: self._counters.get(which) for which, name in FIGURES.items()}
            self._figures["pending"] = self._counters.pending()
        return self._figures


def _totals(counters: Counters) -> dict[str, int]:
    return {
        "frames_total": counters.get(Count.FRAMES),
        "accepted_total": counters.get(Count.ACCEPTED),
        "refused_total": counters.get(Count.REFUSED),
        "pending": counters.pending(),
    }
