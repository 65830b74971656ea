"""Two skerry-control processes on one database: certificates, ports and folders of their own, devices that talk to both."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import urllib3

from contracts.operator import CampaignView, EventView
from contracts.reports import ReportAnswer, ReportBatch
from control_plane.adapters.director import DirectorFiles
from control_plane.ceremony import ceremony, certificates
from control_plane.ceremony.certificates import Identity
from control_plane.store import campaigns
from tests.integration.control_process import ControlProcess, Http, ScriptedDevice, check_refused, decided_after_s
from tests.integration.test_replica_crashes import check_log
from tests.simulators.bundle_bytes import make_bundle
from tests.simulators.replicas import Issued, Reporter

DEVICES = 4
VALID_S = 1.0  # how old a replica's memory of the registry may be
DECISION_S = 2.0  # from a wave's last report to its verdict
STORY_S = 60.0
Two = tuple[ControlProcess, ControlProcess]
FILES = ("timestamp.json", "snapshot.json", "targets.json", "assignment.json")


def another(first: ControlProcess, folder: Path) -> ControlProcess:
    """A second replica of the site: the first one's database and blobs, everything else its own."""
    keys, site, now = folder / "keys", first.site, datetime.now(timezone.utc)
    ceremony.add_service(site, "svc-control-2", now)
    shutil.copytree(site.folder / "control/keys", keys)
    server_ca = Identity.from_pem(site.read("public/server-ca.crt"), site.read("offline/server-ca.key"))
    server = certificates.server(server_ca, "localhost", now)
    (keys / "server.key").write_bytes(server.key_pem)
    (keys / "server.crt").write_bytes(server.certificate_pem + server_ca.certificate_pem + site.read("public/site-ca.crt"))
    state = first.folder / "state"
    return ControlProcess(folder, site, keys_dir=keys, database=f"sqlite:///{state / 'skerry.db'}", blob_dir=state / "blobs")


@pytest.fixture(scope="module", name="two")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Started at the same moment on a database that is not there yet."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "state").mkdir()
    one = ControlProcess(folder)
    other = another(one, tmp_path_factory.mktemp("other"))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(ControlProcess.start, (one, other)))
    yield one, other
    assert [process.stop() for process in (one, other)] == [0, 0]


@dataclass
class ByHttps:
    """A replica as one device reaches it."""

    http: Http

    def poll(self, device: str) -> DirectorFiles:
        """All four files, again until they are of one version: it may change between two requests."""
        while True:
            answers = {name: self.http("GET", f"/device/v1/director/{name}") for name in FILES}
            versions = {answers[name].json["signed"]["version"] for name in FILES[:3]}
            timestamp = answers["timestamp.json"]
            if len(versions) == 1 and self.http("GET", "/device/v1/director/timestamp.json").body == timestamp.body:
                files = {name: answer.body for name, answer in answers.items()}
                return DirectorFiles(versions.pop(), timestamp.headers["etag"].encode(), datetime.now(timezone.utc), files)

    def report(self, batch: ReportBatch) -> ReportAnswer:
        return ReportAnswer.model_validate_json(self.http("POST", "/device/v1/reports", batch.model_dump(mode="json")).body)


class Fleet:
    """Devices on threads of their own, each poll and each report through the other replica than the one before."""

    def __init__(self, two: Two, folder: Path) -> None:
        self.two, self.folder, self.stop = two, folder, threading.Event()
        self.scripted = [ScriptedDevice.enrol(two[number % 2], folder) for number in range(DEVICES)]
        self.reporters = [Reporter(one.id, Issued()) for one in self.scripted]
        self.failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._live, args=(one,), name=one.id) for one in self.reporters]

    def __enter__(self) -> Fleet:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(30)
        assert self.failed == []

    def _live(self, device: Reporter) -> None:
        turn = 0
        try:
            while not self.stop.wait(0.02):
                for call in (device.poll, device.deliver):
                    turn += 1
                    self._through(self.two[turn % 2], device, call)
        except BaseException as failed:
            self.failed.append(failed)

    def _through(self, process: ControlProcess, device: Reporter, call: Any) -> None:
        http = Http(
            f"https://localhost:{process.ports['devices']}",
            process.ca,
            (self.folder / f"{device.id}.crt", self.folder / f"{device.id}.key"),
        )
        try:
            call(ByHttps(http))
        except (urllib3.exceptions.HTTPError, json.JSONDecodeError):
            pass  # that replica is away: the next turn goes to the other one
        finally:
            http.close()


def rolled(process: ControlProcess, release: str, fleet: Fleet) -> str:
    """A campaign of two waves, one device and the rest; its id."""
    names = [one.id for one in fleet.reporters]
    waves = [{"devices": names[:1]}, {"devices": names[1:]}]
    answer = process.operators("POST", "/v1/campaigns", {"name": "roll", "release": release, "waves": waves})
    assert answer.status == 201, answer.body
    return CampaignView.model_validate_json(answer.body).id


def test_one_fleet_two_processes_and_a_kill(two: Two, tmp_path: Path) -> None:
    one, other = two
    for number in (1, 2):
        one.sign(make_bundle(number), f"tiny-{number}")
    with Fleet(two, tmp_path) as fleet:
        first = rolled(one, "tiny-1", fleet)
        other.event("campaign_succeeded", STORY_S, release="tiny-1")
        second = rolled(other, "tiny-2", fleet)
        one.event("wave_moved", STORY_S, wave=1, state="PASSED", code="")
        assert other.kill() == -9
        other.start()
        one.event("campaign_succeeded", STORY_S, release="tiny-2")
    log = [EventView.model_validate(line) for line in one.events()]
    with one.database() as database, database.read() as session:
        check_log(log, [campaigns.load(session, row) for row in campaigns.listed(session)])
    digest = make_bundle(2).digest
    assert [one.operators("GET", f"/v1/devices/{device.id}").json["confirmed_digest"] for device in fleet.reporters] == [digest] * DEVICES
    decisions = decided_after_s(log, first)
    print(f"waves decided after {decisions} s, with a kill after {decided_after_s(log, second)} s")
    assert len(decisions) == 2
    assert max(decisions) <= DECISION_S


def test_a_device_revoked_on_one_is_refused_by_the_other_within_a_second(two: Two, tmp_path: Path) -> None:
    """On the connection that it has open: a certificate is judged at every request."""
    one, other = two
    device = ScriptedDevice.enrol(one, tmp_path)
    there = other.devices((tmp_path / f"{device.id}.crt", tmp_path / f"{device.id}.key"))
    path = "/device/v1/director/timestamp.json"
    etag = there("GET", path).headers["etag"]
    assert there("GET", path, If_None_Match=etag).status == 304
    assert one.operators("POST", f"/v1/devices/{device.id}/revoke").status == 200
    revoked = answered = time.monotonic()
    while (answer := there("GET", path, If_None_Match=etag)).status == 304:
        answered, asked = time.monotonic(), answered
        assert asked - revoked <= VALID_S
    check_refused(answer, 403, "API_FORBIDDEN")
    check_refused(there("POST", "/device/v1/reports", {}), 403, "API_FORBIDDEN")
    [pool] = [there._pool.pools[key] for key in there._pool.pools.keys()]  # noqa: SIM118
    assert pool.num_connections == 1, "all of it on one connection"
