"""`"rows": "windows"` from frames to Delta on real processes: agent, worker, pipeline, broker, ingest. Two are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from PIL import Image

from contracts.assignment import AckKey
from contracts.canonical import key_id
from firmware_profiles.detect import detect
from processing import pipeline, windows
from tests.integration.sync_site import SyncSite
from tests.simulators.agent_process import AgentProcess, assign, real_bundle
from tests.simulators.bundles import COLUMNS, PROCESSING, window_schemas
from tests.simulators.director import DEVICE, Cloud
from tests.simulators.onnx_bundles import weights

FPS, LENGTH = 200, 10
SPEC = {
    **PROCESSING,
    "rows": "windows",
    "windows": [{"name": "ten", "frames": LENGTH, "features": [
        {"name": "mean_score", "how": "mean", "of": "score"},
        {"name": "median_score", "how": "quantile", "of": "score", "q": 0.5, "most": LENGTH},
    ]}],
}  # fmt: skip
(TEN,) = windows.compile(SPEC, COLUMNS)
OWN = [column["name"] for column in (*COLUMNS[:3], *TEN.columns)]
Status = dict[str, Any]


class OnRealBroker(Cloud):
    """Names the sync path's broker to its devices, and their certificates to that broker."""

    def __init__(self, folder: Path, site: SyncSite) -> None:
        super().__init__(folder, profile=detect().name)
        self._broker = site.broker
        trusted = Path(site.broker.certificates.path("ca.crt"))
        self._brokers_ca = trusted.read_text()
        trusted.write_text(self._brokers_ca + self.site.read("broker/devices-ca.crt").decode())

    def pins(self) -> Any:
        pins = super().pins()
        return pins.model_copy(update={"broker_port": self._broker.port, "server_ca_pem": pins.server_ca_pem + self._brokers_ca})


@pytest.fixture
def site(open_folder: Path) -> Iterator[SyncSite]:
    site = SyncSite(open_folder)
    site.registry.learn(window_schemas(SPEC)[0])
    yield site
    site.close()


@pytest.fixture
def cloud(tmp_path: Path, site: SyncSite) -> Iterator[Cloud]:
    cloud = OnRealBroker(tmp_path / "cloud", site)
    site.broker.start()
    yield cloud
    cloud.close()


@pytest.fixture
def agent(tmp_path: Path, site: SyncSite, cloud: Cloud) -> Iterator[AgentProcess]:
    (tmp_path / "device").mkdir()
    agent = AgentProcess(tmp_path / "device", cloud, fps=FPS)
    assert agent.enrol() == DEVICE
    public = bytes.fromhex(json.loads(cloud.files["enrolment"] or b"")["batch_key"]["public_key"])
    site.registry.know(DEVICE, {key_id(public): public})
    yield agent
    agent.close()


def accepted(status: Status) -> int:
    return sum(one["accepted_rows"] for one in status["outbox"]["streams"].values())


def acked(status: Status) -> int:
    return sum(one["acked_rows"] for one in status["outbox"]["streams"].values())


def busy(agent: AgentProcess, since: Status | None = None) -> Status:
    """Rows have reached the lake since then, and others are on their way there."""
    before = acked(since) if since else 0
    return agent.wait_for(lambda status: before < acked(status) < accepted(status))


def drained(agent: AgentProcess) -> Status:
    """The camera shows nothing any more; all that was accepted is acknowledged."""
    shutil.rmtree(agent.folder / "frames")
    dark = agent.status()["pipeline"]["refused"] + 3 * FPS // 2  # a batch that is not full waits for a second
    return agent.wait_for(lambda status: status["pipeline"]["refused"] > dark and acked(status) == accepted(status))


def computed(agent: AgentProcess) -> list[list[Any]]:
    """Features of the windows that the folder's pictures come to, as the training side has it."""
    process, rows = pipeline.compile(PROCESSING), []
    for number, path in enumerate(sorted((agent.folder / "frames").glob("*.png"))):
        answer = process.post(process(np.asarray(Image.open(path))).reshape(1, -1) @ weights())
        rows.append([number, 0, number, answer["label"], answer["score"]])
    return [row[-2:] for row in windows.windows_of(TEN, rows)]


def test_only_windows_come_to_the_lake_once_over_kills_of_pipeline_and_agent(site: SyncSite, cloud: Cloud, agent: AgentProcess) -> None:
    wanted = computed(agent)
    site.start_ingest()
    ack_key = AckKey(key_id=site.ack_key.key_id, public_key=site.ack_key.public.hex())
    assign(cloud, real_bundle(cloud, 1, processing=SPEC), 1, ack_keys=(ack_key,))
    agent.start()
    at_work = busy(agent)
    os.kill(at_work["pids"]["pipeline"], signal.SIGKILL)
    again = busy(agent, at_work)
    assert again["pids"]["pipeline"] != at_work["pids"]["pipeline"]
    assert again["pipeline"]["window_rows_refused"] == 0
    agent.kill()
    agent.start()
    busy(agent, again)
    end = drained(agent)

    counters, streams = end["pipeline"], {name: one for name, one in end["outbox"]["streams"].items() if one["accepted_rows"]}
    audit = site.audit()
    assert audit["clean"], audit
    assert {name: (one["rows"], one["running_hash"]) for name, one in audit["streams"].items()} == {
        name: (one["accepted_rows"], one["running_hash"]) for name, one in streams.items()
    }
    assert [one["lane"] for one in streams.values()] == ["windows"]
    assert set(audit["tables"]) == {"bronze_digits__ten", "quarantine", "gaps"}, "no row of a frame"

    rows = DeltaTable(audit["tables"]["bronze_digits__ten"]).to_pyarrow_table(columns=["seq", "idx", *OWN]).to_pylist()
    rows.sort(key=lambda row: (row["seq"], row["idx"]))
    assert len(rows) == accepted(end) > 20
    assert all(row["frame_no"] < later["first_frame_no"] for row, later in pairwise(rows)), "no frame is in two windows"
    for row in rows:
        assert not row["whole"] or row["window_no"] == row["frame_no"] // LENGTH
        if row["frames"] == LENGTH:
            assert [row["mean_score"], row["median_score"]] == pytest.approx(wanted[row["window_no"] % len(wanted)], abs=1e-4)
    assert any(row["frames"] == LENGTH and row["whole"] for row in rows)
    assert counters["frames"] == counters["kept"] + counters["refused"] + counters["pending"]
    assert counters["kept"] >= sum(row["frames"] for row in rows)
    assert counters["accepted_rows"] == 0
    assert counters["window_rows_refused"] < 2 * FPS // LENGTH, "what waited when the agent died, if the pipeline came to counting it"
