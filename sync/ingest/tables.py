"""Delta tables on a local disk by delta-rs: pyarrow writes the file, one commit carries file and transaction ids, then fsync.

A commit is never rebased onto a newer snapshot (no retries inside delta-rs): the watermarks that were read belong to
the snapshot that is committed on, so whoever has committed meanwhile makes this commit fail, and the caller asks again.
Files of failed commits stay behind unreferenced, for VACUUM: they are not deleted, because a commit that looks failed may stand. A file
that could not be written whole was never in a commit: it is deleted, so that tries on a full disk do not add up.
A disk that takes no writes is LocalFaultError LAKE_DISK.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from contracts.errors import LocalFaultError, error
from contracts.features import GAPS, QUARANTINE, Table
from program.disk import NO_WRITES, writing
from sync.ingest import torn
from sync.ingest.arrow import arrow_schema
from sync.ingest.durability import Durability

LOG = "_delta_log"
PARTITION = "ingest_date"
ZSTD_LEVEL = 1
CREATION_ACTIONS = 2  # protocol and metadata
_SYSTEM_NUMBER = re.compile(r"os error (\d+)")
# Checkpoints are made, and synced, by maintenance: delta-rs would leave them un-synced.
_NO_CHECKPOINT = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class DeltaLake:
    """All tables under one folder. The folder must exist."""

    def __init__(self, root: Path, durability: Durability) -> None:
        self._root, self._durability = root, durability
        self._open: dict[str, DeltaLakeTable] = {}
        self._checked: set[Table] = set()
        durability.folder(root)  # a process that was killed may have made a table and not come to this
        for log in sorted(root.glob(f"*/{LOG}")):
            torn.set_aside(log, durability)
        for contract in (QUARANTINE, GAPS):
            self.table(contract)
        for folder in sorted(root.glob("bronze_*")):
            if DeltaTable.is_deltatable(str(folder)):
                self._open[folder.name] = DeltaLakeTable(folder, durability)

    def table(self, contract: Table) -> DeltaLakeTable:
        folder = self._root / contract.name
        if contract.name not in self._open:
            if not DeltaTable.is_deltatable(str(folder)):
                self._create(folder, contract)
            self._open[contract.name] = DeltaLakeTable(folder, self._durability)
        table = self._open[contract.name]
        if contract not in self._checked:
            table.check(contract)
            self._checked.add(contract)
        return table

    def tables(self) -> Sequence[DeltaLakeTable]:
        return list(self._open.values())

    def _create(self, folder: Path, contract: Table) -> None:
        """Made durable by DeltaLakeTable, which syncs every log entry that it opens; the lake's own folder gets a new name here."""
        with on_disk(contract.name, "making the table"):
            DeltaTable.create(
                str(folder),
                schema=arrow_schema(contract.columns),
                partition_by=list(contract.partition_by),
                configuration=dict(contract.properties),
                commit_properties=CommitProperties(custom_metadata={torn.ACTIONS: str(CREATION_ACTIONS)}),
                post_commithook_properties=_NO_CHECKPOINT,
            )
            self._durability.folder(self._root)


class DeltaLakeTable:
    def __init__(self, folder: Path, durability: Durability) -> None:
        self.name = folder.name
        self._folder, self._durability = folder, durability
        self._delta = DeltaTable(str(folder))
        self._synced = -1  # version of the newest log entry that is known to be on disk
        self._watermarks: dict[str, int] = {}  # of the held snapshot, as far as asked
        durability.folder(folder)
        self._sync_log()

    def check(self, contract: Table) -> None:
        """Raises LocalFaultError LAKE_SCHEMA_MISMATCH unless columns, partitions and properties are exactly the contract's."""
        found = pa.schema(self._delta.schema())
        if not found.equals(arrow_schema(contract.columns)):
            raise error("LAKE_SCHEMA_MISMATCH", self.name, f"has columns {', '.join(map(str, found))}")
        metadata = self._delta.metadata()
        if tuple(metadata.partition_columns) != contract.partition_by or metadata.configuration != dict(contract.properties):
            raise error(
                "LAKE_SCHEMA_MISMATCH", self.name, f"has partitions {metadata.partition_columns}, properties {metadata.configuration}"
            )

    def refresh(self) -> None:
        self._delta.update_incremental()
        if self._delta.version() != self._synced:
            self._watermarks.clear()
            self._sync_log()

    def watermark(self, app_id: str) -> int:
        if app_id not in self._watermarks:
            self._watermarks[app_id] = self._delta.transaction_version(app_id) or 0
        return self._watermarks[app_id]

    def append(self, rows: pa.Table | None, watermarks: Mapping[str, int]) -> None:
        actions: list[AddAction | RemoveAction] = [self._write(part, date) for date, part in _partitions(rows)] if rows is not None else []
        try:
            with on_disk(self.name, "committing"):
                self._commit(actions, watermarks)
        except (DeltaError, OSError) as failed:
            raise error("LAKE_CONFLICT", self.name, str(failed)) from failed
        self.refresh()

    def _commit(self, actions: list[AddAction | RemoveAction], watermarks: Mapping[str, int]) -> None:
        self._delta.create_write_transaction(
            actions,
            mode="append",
            schema=self._delta.schema(),
            partition_by=[PARTITION],
            commit_properties=CommitProperties(
                custom_metadata={torn.ACTIONS: str(len(actions) + len(watermarks))},
                app_transactions=[Transaction(app_id, version) for app_id, version in sorted(watermarks.items())],
                max_commit_retries=0,
            ),
            post_commithook_properties=_NO_CHECKPOINT,
        )

    def ledger(self, stream: str | None = None) -> Iterator[tuple[str, int, bytes]]:
        seq = "last_seq" if self.name == GAPS.name else "seq"
        condition = None if stream is None else pc.field("stream") == stream
        columns = ["stream", seq, "ledger_hash"]
        for batch in self._delta.to_pyarrow_dataset().to_batches(columns=columns, filter=condition):
            found = pa.Table.from_batches([batch]).group_by(columns).aggregate([])
            yield from zip(*(found.column(name).to_pylist() for name in columns), strict=True)

    def _write(self, rows: pa.Table, date: str) -> AddAction:
        name = f"{PARTITION}={date}/part-{uuid.uuid4()}.zstd.parquet"
        path = self._folder / name
        try:
            with on_disk(self.name, "writing rows"):
                path.parent.mkdir(exist_ok=True)
                pq.write_table(rows.drop_columns([PARTITION]), path, compression="zstd", compression_level=ZSTD_LEVEL)
                self._durability.file(path)
                self._durability.folder(path.parent)
                self._durability.folder(self._folder)
        except LocalFaultError:
            path.unlink(missing_ok=True)
            raise
        return AddAction(name, path.stat().st_size, {PARTITION: date}, time.time_ns() // 1_000_000, True, _statistics(rows))

    def _sync_log(self) -> None:
        """Log entries that somebody (this process, or one that was killed before it could) has committed since the last call."""
        log, version = self._folder / LOG, self._delta.version()
        with on_disk(self.name, "syncing the log"):
            for entry in range(self._synced + 1, version + 1):
                if (path := log / f"{entry:020d}.json").exists():  # older ones may have gone into a checkpoint
                    self._durability.file(path)
            self._durability.folder(log)
        self._synced = version


@contextmanager
def on_disk(table: str, phase: str) -> Iterator[None]:
    """What Python's own calls raise, and what delta-rs says in words: it keeps the system's number in its text."""
    try:
        with writing("LAKE_DISK", table, phase):
            yield
    except (DeltaError, OSError) as failed:
        said = _SYSTEM_NUMBER.search(str(failed))
        if said is None or int(said[1]) not in NO_WRITES:
            raise
        raise error("LAKE_DISK", table, f"{phase}: {os.strerror(int(said[1]))}") from failed


def _partitions(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    dates = pc.unique(rows.column(PARTITION)).to_pylist()
    for date in dates:
        yield date, rows if len(dates) == 1 else rows.filter(pc.equal(rows.column(PARTITION), date))


def _statistics(rows: pa.Table) -> str:
    bounds = {name: pc.min_max(rows.column(name)).as_py() for name in ("stream", "seq")}
    return json.dumps(
        {
            "numRecords": rows.num_rows,
            "minValues": {name: found["min"] for name, found in bounds.items()},
            "maxValues": {name: found["max"] for name, found in bounds.items()},
            "nullCount": dict.fromkeys(bounds, 0),
        }
    )
