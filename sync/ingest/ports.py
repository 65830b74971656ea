"""What ingest needs of the world. Production: registry.py, tables.py, sync/mqtt.py; simulators in tests/simulators pass the same suites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from contracts.features import FeatureSchema, Table
from contracts.operator import RegistryDevice


class Registry(Protocol):
    """What the control plane knows, a minute old at most; older when it does not answer."""

    def device(self, device_id: str, key_id: str) -> RegistryDevice | None:
        """None: not known. Asks again (not too often) when the device, or this key of it, is not known yet."""

    def schema(self, schema_id: str) -> FeatureSchema | None:
        """None: not known. Asks again, not too often."""


class LakeTable(Protocol):
    """One table and the snapshot of it that is held. Reads and commits refer to that snapshot, until `refresh`."""

    name: str

    def refresh(self) -> None:
        """Hold the newest snapshot; what it says is durable when this returns."""

    def watermark(self, app_id: str) -> int:
        """Version of the transaction id in the held snapshot, 0 when there is none."""

    def append(self, rows: pa.Table | None, watermarks: Mapping[str, int]) -> None:
        """One commit on the held snapshot: `rows` (None: no file) and `watermarks`. Durable, and held, when it returns.

        Raises TransientError LAKE_CONFLICT when somebody else has committed since, or when it is not known whether this commit
        stands; `refresh` then tells. LocalFaultError LAKE_DISK when the disk takes no writes.
        """

    def ledger(self, stream: str | None = None) -> Iterator[tuple[str, int, bytes]]:
        """(stream, last seq, ledger hash) of each batch in the held snapshot, of all streams or of one; in no order."""


class Lake(Protocol):
    def table(self, contract: Table) -> LakeTable:
        """The table, made when it is not there yet. Raises LocalFaultError LAKE_SCHEMA_MISMATCH."""

    def tables(self) -> Sequence[LakeTable]:
        """All tables that are there: a stream's watermark may stand in any of them."""
