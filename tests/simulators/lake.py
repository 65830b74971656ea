"""A lake in memory that keeps the promises of sync/ingest/ports.py: snapshots, one winner per version, ids with the rows.

`Storage` is the disk, shared by all; each `SimulatedLake` is one process's view of it. A test may let a commit crash its process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from contracts.errors import error
from contracts.features import GAPS, QUARANTINE, Table
from sync.ingest.arrow import arrow_schema


class ProcessDied(BaseException):
    """SIGKILL: nothing that the process would have done afterwards is done."""


@dataclass(frozen=True)
class Commit:
    rows: pa.Table | None
    watermarks: Mapping[str, int]


@dataclass
class Storage:
    commits: dict[str, list[Commit]] = field(default_factory=dict)
    contracts: dict[str, Table] = field(default_factory=dict)
    before_commit: Callable[[str], None] = lambda _: None
    after_commit: Callable[[str], None] = lambda _: None

    def rows(self) -> dict[str, pa.Table]:
        """All rows of each table, as an audit reads them."""
        return {name: self._rows(name) for name in self.commits}

    def _rows(self, name: str) -> pa.Table:
        schema = arrow_schema(self.contracts[name].columns)
        parts = [commit.rows for commit in self.commits[name] if commit.rows is not None]
        return pa.concat_tables([schema.empty_table(), *parts])


class SimulatedLake:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        for contract in (QUARANTINE, GAPS):
            storage.commits.setdefault(contract.name, [])
            storage.contracts.setdefault(contract.name, contract)
        self._open = {name: SimulatedTable(name, storage) for name in storage.commits}

    def table(self, contract: Table) -> SimulatedTable:
        found = self._storage.contracts.setdefault(contract.name, contract)
        if found != contract:
            raise error("LAKE_SCHEMA_MISMATCH", contract.name)
        self._storage.commits.setdefault(contract.name, [])
        return self._open.setdefault(contract.name, SimulatedTable(contract.name, self._storage))

    def tables(self) -> Sequence[SimulatedTable]:
        return list(self._open.values())


class SimulatedTable:
    def __init__(self, name: str, storage: Storage) -> None:
        self.name, self._storage = name, storage
        self._version = len(storage.commits[name])

    def refresh(self) -> None:
        self._version = len(self._storage.commits[self.name])

    def watermark(self, app_id: str) -> int:
        return next((commit.watermarks[app_id] for commit in reversed(self._held()) if app_id in commit.watermarks), 0)

    def append(self, rows: pa.Table | None, watermarks: Mapping[str, int]) -> None:
        self._storage.before_commit(self.name)
        if self._version != len(self._storage.commits[self.name]):
            raise error("LAKE_CONFLICT", self.name)
        self._storage.commits[self.name].append(Commit(rows, dict(watermarks)))
        self._storage.after_commit(self.name)
        self.refresh()

    def ledger(self, stream: str | None = None) -> Iterator[tuple[str, int, bytes]]:
        seq = "last_seq" if self.name == GAPS.name else "seq"
        for commit in self._held():
            for row in commit.rows.to_pylist() if commit.rows is not None else ():
                if stream in (None, row["stream"]):
                    yield row["stream"], row[seq], row["ledger_hash"]

    def _held(self) -> list[Commit]:
        return self._storage.commits[self.name][: self._version]
