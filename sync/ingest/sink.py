"""Batches into the lake, each exactly once.

A stream's watermark is the highest `s/<stream>` transaction id over all tables. Each batch has one destination, which its bytes alone
decide: bronze of its family; quarantine when it is refused whole or no row of it is good; gaps. The commit that holds a batch moves the
watermark, in the same table and on the same snapshot that was asked for it. So a second committer with the same batch meets a
conflict there, and a batch that was committed before a crash is a duplicate afterwards.

A batch with some bad rows needs two tables: its bad rows go to quarantine first, under their own id `q/<stream>`; when this process dies
before the bronze commit, the batch comes again, and the second time `q/<stream>` says that its bad rows are there already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from contracts.batch import LEDGER_START
from contracts.errors import TransientError, error
from contracts.features import GAPS, QUARANTINE, Table, bronze
from program.clock import Clock
from sync import watermark
from sync.ingest import rows
from sync.ingest.checks import checked
from sync.ingest.intake import Batch, Fault
from sync.ingest.ports import Lake, LakeTable

MAX_CONFLICTS = 20


@dataclass(frozen=True)
class Position:
    """How far the lake has a stream: everything up to `seq`, with this running hash."""

    seq: int
    running_hash: bytes


@dataclass(frozen=True)
class Outcome:
    """What became of the batches of one `commit`. Only `ahead` may be handed in again."""

    committed: list[Batch] = field(default_factory=list)
    duplicates: list[Batch] = field(default_factory=list)
    ahead: list[Batch] = field(default_factory=list)
    overlaps: list[Batch] = field(default_factory=list)


class Sink:
    def __init__(self, lake: Lake, clock: Clock) -> None:
        self._lake, self._clock = lake, clock
        self._positions: dict[str, Position] = {}
        self._refresh()
        self._restore()

    def positions(self, device: str) -> dict[str, Position]:
        """Every stream of `device` that the lake has."""
        return {stream: position for stream, position in self._positions.items() if stream.startswith(f"{device}/")}

    def devices(self) -> set[str]:
        return {stream.split("/")[0] for stream in self._positions}

    def prepare(self, family_schema: Table) -> None:
        """Make sure that the table is there. Raises LocalFaultError LAKE_SCHEMA_MISMATCH."""
        self._lake.table(family_schema)

    def commit(self, batches: Iterable[Batch]) -> Outcome:
        """Everything that is committed is durable when this returns. Raises TransientError LAKE_CONFLICT when others never let go."""
        waiting = _by_stream(checked(batches))
        committed: list[Batch] = []
        conflicts = 0
        self._refresh()
        while groups := self._next_groups(waiting):
            try:
                for destination, group in groups:
                    self._append(destination, group)
                    committed += group
            except TransientError:  # LAKE_CONFLICT: the tables know what stands
                conflicts += 1
                if conflicts > MAX_CONFLICTS:
                    raise
                self._refresh()
        return self._outcome(waiting, committed)

    def _restore(self) -> None:
        """Watermarks are transaction ids; the running hash at the watermark stands with the rows."""
        hashes: dict[str, dict[int, bytes]] = defaultdict(dict)
        for table in self._lake.tables():
            for stream, last_seq, ledger_hash in table.ledger():
                hashes[stream][last_seq] = ledger_hash
        for stream, known in hashes.items():
            if seq := self._watermark(stream):
                self._positions[stream] = _position(stream, seq, known)

    def _refresh(self) -> None:
        for table in self._lake.tables():
            table.refresh()

    def _watermark(self, stream: str) -> int:
        return max(table.watermark(f"s/{stream}") for table in self._lake.tables())

    def _position(self, stream: str) -> Position:
        """Of the held snapshots. The remembered one serves unless another committer has moved on."""
        seq = self._watermark(stream)
        known = self._positions.get(stream, Position(0, LEDGER_START))
        if known.seq == seq:
            return known
        found = {last: digest for table in self._lake.tables() for _, last, digest in table.ledger(stream)}
        self._positions[stream] = _position(stream, seq, found)
        return self._positions[stream]

    def _next_groups(self, waiting: dict[str, list[Batch]]) -> list[tuple[Table, list[Batch]]]:
        """Per destination what can be committed now: of each stream the run of fresh batches with one destination."""
        groups: dict[str, tuple[Table, list[Batch]]] = {}
        for stream, batches in waiting.items():
            position = self._position(stream)
            fresh = watermark.plan(position.seq, batches).fresh
            for destination, batch in _one_destination(_chained(fresh, position.running_hash)):
                groups.setdefault(destination.name, (destination, []))[1].append(batch)
        return list(groups.values())

    def _append(self, destination: Table, group: Sequence[Batch]) -> None:
        """One commit, after one to quarantine when rows of it belong there."""
        now = self._clock.utc()
        table = self._lake.table(destination)
        moved = {f"s/{batch.stream}": batch.last_seq for batch in group}
        if destination is GAPS:
            table.append(rows.gaps(group, now), moved)
        elif destination is QUARANTINE:
            table.append(rows.quarantine(group, now), moved)
        else:
            self._quarantine_first(group)
            table.append(rows.bronze(destination, group, now), moved)
        for batch in group:
            self._positions[batch.stream] = Position(batch.last_seq, batch.header.hash_after)

    def _quarantine_first(self, group: Sequence[Batch]) -> None:
        table: LakeTable = self._lake.table(QUARANTINE)
        missing = [batch for batch in group if batch.bad_rows and batch.seq > table.watermark(f"q/{batch.stream}")]
        if missing:
            table.append(rows.quarantine(missing, self._clock.utc()), {f"q/{batch.stream}": batch.seq for batch in missing})

    def _outcome(self, waiting: dict[str, list[Batch]], committed: list[Batch]) -> Outcome:
        outcome = Outcome(committed)
        done = {(batch.stream, batch.seq) for batch in committed}
        for stream, batches in waiting.items():
            plan = watermark.plan(self._position(stream).seq, batches)
            outcome.ahead.extend(plan.ahead)
            outcome.overlaps.extend(plan.overlaps)
            for batch in plan.duplicates:
                if (stream, batch.seq) in done:
                    done.remove((stream, batch.seq))
                else:
                    outcome.duplicates.append(batch)
        return outcome


def _by_stream(batches: Iterable[Batch]) -> dict[str, list[Batch]]:
    found = defaultdict(list)
    for batch in batches:
        found[batch.stream].append(batch)
    return dict(found)


def _position(stream: str, seq: int, hashes: dict[int, bytes]) -> Position:
    if seq and seq not in hashes:
        raise error("LAKE_HISTORY", stream, f"watermark {seq}")
    return Position(seq, hashes[seq] if seq else LEDGER_START)


def _chained(batches: Sequence[Batch], running_hash: bytes) -> Iterator[Batch]:
    """A batch that does not continue the running hash is quarantined whole; the chain goes on from what its device says."""
    for batch in batches:
        if batch.header.hash_before == running_hash or batch.header.kind == "gap":
            yield batch
        else:
            yield replace(batch, rows=None, bad_rows={}, fault=Fault("INGEST_LEDGER", "does not continue the stream's running hash"))
        running_hash = batch.header.hash_after


def _one_destination(batches: Iterable[Batch]) -> Iterator[tuple[Table, Batch]]:
    first: str | None = None
    for batch in batches:
        destination = _destination(batch)
        first = first or destination.name
        if destination.name != first:
            return
        yield destination, batch


def _destination(batch: Batch) -> Table:
    if batch.header.kind == "gap":
        return GAPS
    if batch.fault is not None or batch.schema is None or len(batch.bad_rows) == batch.header.rows:
        return QUARANTINE
    return bronze(batch.schema)
