"""What only Delta on a disk has: exact schemas and properties, partitions, a commit that looks failed and stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

from contracts.errors import SkerryError
from contracts.features import GAPS, QUARANTINE, bronze
from sync.ingest.arrow import arrow_schema
from sync.ingest.durability import LocalDisk
from sync.ingest.tables import DeltaLake
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.row_path import DEVICE, DEVICE_KEY, DIGEST, SCHEMA, Ingest, open_outbox, rows


@pytest.mark.parametrize("contract", [QUARANTINE, GAPS, bronze(SCHEMA)], ids=lambda contract: contract.name)
def test_tables_are_made_exactly_as_the_contract_says(tmp_path: Path, contract: object) -> None:
    DeltaLake(tmp_path, LocalDisk()).table(contract)  # type: ignore[arg-type]
    table = DeltaTable(str(tmp_path / contract.name))  # type: ignore[attr-defined]
    assert table.metadata().configuration["delta.appendOnly"] == "true"
    assert table.metadata().partition_columns == ["ingest_date"]
    assert table.to_pyarrow_dataset().schema.equals(arrow_schema(contract.columns))  # type: ignore[attr-defined]
    assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)  # Spark and older readers open it


def test_other_properties_or_partitions_are_refused(tmp_path: Path) -> None:
    DeltaLake(tmp_path, LocalDisk()).table(bronze(SCHEMA))
    for other in (replace(bronze(SCHEMA), properties=()), replace(bronze(SCHEMA), partition_by=())):
        with pytest.raises(SkerryError, match="LAKE_SCHEMA_MISMATCH"):
            DeltaLake(tmp_path, LocalDisk()).table(other)


def test_a_commit_that_looks_failed_but_stands_is_not_repeated(tmp_path: Path) -> None:
    """The answer of the commit is lost: the table is asked, and it says that the rows are there."""

    class LossyDisk(LocalDisk):
        armed = False

        def file(self, path: Path) -> None:
            super().file(path)
            if self.armed and path.suffix == ".json":
                type(self).armed = False
                raise error_of_a_lost_answer()

    def error_of_a_lost_answer() -> SkerryError:
        from contracts.errors import error

        return error("LAKE_CONFLICT", "bronze_digits", "no answer")

    (tmp_path / "lake").mkdir()
    registry = SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    registry.learn(SCHEMA)
    ingest = Ingest(DeltaLake(tmp_path / "lake", LossyDisk()), registry, tmp_path)
    outbox = open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    ingest.take(*outbox.take(stream, 0, 1))
    LossyDisk.armed = True
    assert len(ingest.flush()) == 1
    assert LossyDisk.armed is False
    assert DeltaTable(str(tmp_path / "lake" / "bronze_digits")).to_pyarrow_table().num_rows == 5
    outbox.close()


def test_statistics_let_readers_skip_files(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    registry = SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    registry.learn(SCHEMA)
    ingest = Ingest(DeltaLake(tmp_path / "lake", LocalDisk()), registry, tmp_path)
    outbox = open_outbox(tmp_path / "outbox.db")
    for i in range(3):
        stream = outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5)).stream
    ingest.take(*outbox.take(stream, 0, 1 << 20))
    ingest.flush()
    actions = DeltaTable(str(tmp_path / "lake" / "bronze_digits")).get_add_actions(flatten=True)
    import pyarrow as pa

    found = pa.table(actions).to_pylist()[0]
    assert (found["num_records"], found["min.seq"], found["max.seq"], found["min.stream"]) == (15, 1, 3, stream)
    outbox.close()
