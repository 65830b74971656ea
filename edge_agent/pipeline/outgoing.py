"""Rows on their way to the agent: batches, one outstanding request, a bounded queue. Pure; time is handed in.

One request = one batch = one seq. A request that was refused is not sent again: its rows are counted as refused. When the queue is full,
in rows or in bytes, further rows are refused at once, so the frame path never waits for the agent's disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.pipeline import MAX_REQUEST_AGE_S, MAX_REQUEST_BYTES, MAX_REQUEST_ROWS, MAX_ROW_BYTES
from edge_agent.pipeline.framing import packed_bytes

MAX_PENDING_BYTES = 16 * 1024 * 1024  # a row is a few hundred bytes; one of a window with many lists of boxes, hundreds of thousands


@dataclass(frozen=True)
class Origin:
    """What all rows of one batch share."""

    lane: str
    schema_id: str
    bundle_digest: str


@dataclass
class _Batch:
    origin: Origin
    opened_s: float
    rows: list[list[Any]] = field(default_factory=list)
    size: int = 0  # bytes

    def takes(self, origin: Origin, size: int) -> bool:
        return origin == self.origin and self.size + size <= MAX_REQUEST_BYTES

    def add(self, row: list[Any], size: int) -> None:
        self.rows.append(row)
        self.size += size


@dataclass(frozen=True)
class Outcome:
    accepted: int
    refused: int
    code: str = ""


class Outgoing:
    def __init__(self, batch_rows: int = 10, max_rows: int = 200, age_s: float = MAX_REQUEST_AGE_S) -> None:
        """`max_rows` bounds open batch, queue and outstanding request together."""
        self._batch_rows, self._max_rows, self._age_s = min(batch_rows, MAX_REQUEST_ROWS), max_rows, age_s
        self._open: _Batch | None = None
        self._closed: deque[_Batch] = deque()
        self._outstanding: tuple[int, _Batch] | None = None
        self._request_no = 0
        self._hold_until_s = float("-inf")

    def add(self, origin: Origin, row: list[Any], now_s: float) -> str:
        """The code by which the row is refused; "": it is taken."""
        size = packed_bytes(row)
        if code := self._refusal(size):
            return code
        if self._open is None or not self._open.takes(origin, size):
            self.cut()
            self._open = _Batch(origin, now_s)
        self._open.add(row, size)
        if len(self._open.rows) >= self._batch_rows:
            self.cut()
        return ""

    def _refusal(self, size: int) -> str:
        if size > MAX_ROW_BYTES:
            return "QUEUE_TOO_LARGE"
        full = self.pending() >= self._max_rows or size + sum(batch.size for batch in self._batches()) > MAX_PENDING_BYTES
        return "QUEUE_FULL" if full else ""

    def cut(self) -> None:
        """Close the open batch: it is full, the route changes, or the process ends."""
        if self._open is not None:
            self._closed.append(self._open)
            self._open = None

    def next_request(self, now_s: float) -> dict[str, Any] | None:
        """The next `rows` message, if none is outstanding and one is due."""
        if self._open is not None and now_s - self._open.opened_s >= self._age_s:
            self.cut()
        if self._outstanding is not None or not self._closed or now_s < self._hold_until_s:
            return None
        batch = self._closed.popleft()
        self._request_no += 1
        self._outstanding = (self._request_no, batch)
        origin = batch.origin
        return {
            "kind": "rows",
            "request_no": self._request_no,
            "lane": origin.lane,
            "schema_id": origin.schema_id,
            "bundle_digest": origin.bundle_digest,
            "rows": batch.rows,
        }

    def answered(self, answer: Mapping[str, Any], now_s: float) -> Outcome:
        """Raises ValueError for an answer to something that was not asked."""
        if self._outstanding is None or answer["request_no"] != self._outstanding[0]:
            raise ValueError(f"an answer to request {answer['request_no']}, which is not outstanding")
        rows = len(self._outstanding[1].rows)
        self._outstanding = None
        if "code" not in answer:
            return Outcome(rows, 0)
        self._hold_until_s = now_s + int(answer.get("retry_after_ms", 0)) / 1000
        return Outcome(0, rows, str(answer["code"]))

    def due_s(self) -> float:
        """When `next_request` may next have something that it has not now; infinity: only an answer or a row can change that."""
        if self._outstanding is not None:
            return float("inf")
        if self._closed:
            return self._hold_until_s
        return self._open.opened_s + self._age_s if self._open is not None else float("inf")

    def pending(self) -> int:
        """Rows that are neither accepted nor refused."""
        return sum(len(batch.rows) for batch in self._batches())

    def unsent(self) -> int:
        """Rows that nobody has been asked to accept."""
        return self.pending() - (len(self._outstanding[1].rows) if self._outstanding else 0)

    def _batches(self) -> Iterator[_Batch]:
        yield from self._closed
        if self._open is not None:
            yield self._open
        if self._outstanding is not None:
            yield self._outstanding[1]
