"""`<run_dir>/ingest-status.json`: what ingest has received, committed and acknowledged, for people and for tests. Replaced as a whole.

    {"pid", "connected", "connection_no",
     "received_rows", "committed_rows", "quarantined_rows" (of the committed ones those that are not fit), "acked_rows",
     "refused_batches", "held_batches", "duplicate_batches", "trouble" (why the lake takes nothing, else ""),
     "streams": {stream: {"received_seq", "committed_seq", "acked_seq", and the four counts of rows}}}

Counts are of this process and begin at 0 when it starts; seqs are the stream's own. received_rows > committed_rows means
that rows are on their way from memory into the lake. Not durable: it says how things are, not how they were.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contracts.errors import error
from sync.ingest.intake import Batch
from sync.ingest.sink import Position

FILE_NAME = "ingest-status.json"
SEQS = ("received_seq", "committed_seq", "acked_seq")
ROWS = ("received_rows", "committed_rows", "quarantined_rows", "acked_rows")


class Status:
    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / FILE_NAME
        self._streams: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys((*SEQS, *ROWS), 0))
        self.connected, self.connection_no = False, 0
        self.refused = self.held = self.duplicates = 0
        self.trouble = ""
        self._changed = True

    def received(self, batch: Batch) -> None:
        stream = self._streams[batch.stream]
        stream["received_seq"] = max(stream["received_seq"], batch.last_seq)
        stream["received_rows"] += batch.header.rows
        self._changed = True

    def dropped(self, batches: Iterable[Batch]) -> None:
        """Received, and not to be committed by this process: duplicates and what came too early for too long."""
        for batch in batches:
            self._streams[batch.stream]["received_rows"] -= batch.header.rows
            self._changed = True

    def committed(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            stream = self._streams[batch.stream]
            stream["committed_rows"] += batch.header.rows
            stream["quarantined_rows"] += batch.header.rows if batch.fault else len(batch.bad_rows)
            stream["committed_seq"] = batch.last_seq
            self._changed = True

    def acked(self, positions: dict[str, Position]) -> None:
        for stream, position in positions.items():
            figures = self._streams[stream]
            figures["committed_seq"] = figures["acked_seq"] = position.seq
            figures["acked_rows"] = figures["committed_rows"]
            self._changed = True

    def stuck(self, why: str) -> None:
        """The lake takes nothing; "" once it does again."""
        self._changed = self._changed or why != self.trouble
        self.trouble = why

    def link(self, connected: bool, connection_no: int) -> None:
        self._changed = self._changed or (connected, connection_no) != (self.connected, self.connection_no)
        self.connected, self.connection_no = connected, connection_no

    def figures(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "connected": self.connected,
            "connection_no": self.connection_no,
            **{name: sum(stream[name] for stream in self._streams.values()) for name in ROWS},
            "refused_batches": self.refused,
            "held_batches": self.held,
            "duplicate_batches": self.duplicates,
            "trouble": self.trouble,
            "streams": self._streams,
        }

    def write(self) -> None:
        """Only when something has changed since the last time."""
        if not self._changed:
            return
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.figures()))
        temporary.chmod(0o644)
        temporary.rename(self._path)
        self._changed = False


def read(run_dir: Path) -> dict[str, Any]:
    """The figures of the ingest that runs with this run_dir. Raises LocalFaultError SETUP_NOT_RUNNING when there are none."""
    try:
        found: dict[str, Any] = json.loads((run_dir / FILE_NAME).read_text())
    except OSError as missing:
        raise error("SETUP_NOT_RUNNING", "skerry-ingest", f"no figures in {run_dir}: {missing.strerror}") from missing
    return found
