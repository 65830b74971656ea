"""A site is read as its users could: events and campaigns over HTTP with a token, rows from Delta tables, kills from the logs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from contracts.errors import LocalFaultError, TransientError
from contracts.features import FRAME_COLUMNS, GAPS, QUARANTINE, FeatureSchema, Table, bronze
from deploy.local.picture.reading import bin_s, drawn
from deploy.local.ports import Ports
from deploy.local.program import main
from deploy.local.site import LocalSite
from deploy.local.supervisor import RECORD
from sync.ingest.arrow import arrow_schema
from tests.simulators import operators_api
from tests.simulators.recorded_run import BEGAN, DEVICES, DIGESTS, recorded

BRONZE = bronze(FeatureSchema(family="digits_line", columns=FRAME_COLUMNS))


@pytest.fixture(scope="module")
def api() -> Iterator[operators_api.OperatorsApi]:
    with operators_api.served() as api:
        api.events = list(recorded().events)
        api.answers["GET /v1/campaigns"] = [view.model_dump(mode="json") for view in recorded().campaigns]
        yield api


@pytest.fixture
def site(tmp_path: Path, api: operators_api.OperatorsApi) -> LocalSite:
    site = LocalSite(tmp_path, Ports(), as_root=False)
    port = int(api.url.rpartition(":")[2])
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    logs = {name: "".join(json.dumps(line) + "\n" for line in lines) for name, lines in recorded().logs.items()}
    texts = {
        site.config("control"): f"operators_port = {port}\n", site.token("operator"): operators_api.TOKEN, Path(site.bin("python")): python,
        tmp_path / "logs" / RECORD: "".join(json.dumps(line) + "\n" for line in recorded().record),
        **{tmp_path / "logs" / f"{name}.log": text for name, text in logs.items()},
    }  # fmt: skip
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    Path(site.bin("python")).chmod(0o755)
    _fill(site.lake)
    return site


def _fill(lake: Path) -> None:
    """30 rows a second of two devices for four seconds, one row in quarantine, seven shed."""
    _write(lake, BRONZE, [_row(device, second, idx) for device in DEVICES[:2] for second in range(4) for idx in range(15)])
    _write(lake, QUARANTINE, [{**_row(DEVICES[1], 3, 0), "code": "INGEST_ROW_RANGE", "detail": "", "rows": 1, "raw": b""}])
    _write(lake, GAPS, [{**_row(DEVICES[1], 3, 0), "last_seq": 9, "rows": 7, "bytes": 70, "reason": "budget"}])


def _row(device: str, second: int, idx: int) -> dict[str, Any]:
    at = BEGAN + timedelta(seconds=second, milliseconds=idx)
    return {
        "stream": f"{device}/live/e", "seq": second + 1, "idx": idx, "device_id": device, "bundle_digest": DIGESTS[1], "schema_id": "",
        "accepted_utc": at, "ingest_utc": at + timedelta(seconds=1), "ingest_date": at.date().isoformat(), "ledger_hash": b"",
        "frame_no": idx, "event_utc": at, "mono_us": idx,
    }  # fmt: skip


def _write(lake: Path, table: Table, rows: list[dict[str, Any]]) -> None:
    write_deltalake(
        DeltaTable.create(str(lake / table.name), arrow_schema(table.columns)),
        pa.Table.from_pylist(rows, arrow_schema(table.columns)),
        mode="append",
    )


def test_the_page_is_drawn_from_log_lake_and_record(site: LocalSite) -> None:
    page = asyncio.run(drawn(site))
    assert f"v1 {DIGESTS[1][:12]}: 60 answers" in page
    assert "(120 in bronze, 1 in quarantine, 7 shed and counted)" in page
    for words in (
        "second-model",
        "TUF_ROLLBACK",
        "INGEST_ROW_RANGE",
        "7 rows shed: budget",
        "worker of agent-1 killed",
        "broker away 10.0 s",
    ):
        assert words in page, words


def test_the_command_writes_it_and_names_it(site: LocalSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.html"
    assert main(["picture", "--work-dir", str(site.root), "--out", str(out), "--last-s", "60"]) == 0
    assert out.read_text().startswith("<!doctype html>")
    assert capsys.readouterr().out.strip() == str(out)


def test_a_folder_that_is_no_site_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LocalFaultError, match=r"CONFIG_MISSING.*work folder of a site"):
        asyncio.run(drawn(LocalSite(tmp_path, Ports(), as_root=False)))
    assert main(["picture", "--work-dir", str(tmp_path)]) == 1
    assert "remedy" in capsys.readouterr().err


def test_a_site_that_is_not_running_is_named(site: LocalSite) -> None:
    site.config("control").write_text("operators_port = 9\n")
    with pytest.raises(TransientError, match="API_UNREACHABLE"):
        asyncio.run(drawn(site))


def test_a_lake_that_cannot_be_read_is_said(site: LocalSite) -> None:
    (site.lake / "bronze_digits_line" / "_delta_log" / "00000000000000000001.json").write_text("{")
    with pytest.raises(LocalFaultError, match="the lake is read"):
        asyncio.run(drawn(site))


def test_a_long_story_gets_wider_bins() -> None:
    events = list(recorded().events)
    assert bin_s(events) == 1
    late = events[-1].model_copy(update={"utc": (BEGAN + timedelta(hours=2)).isoformat()})
    assert bin_s([*events, late]) == 8
    assert bin_s([]) == 1
