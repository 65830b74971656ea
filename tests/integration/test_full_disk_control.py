"""A control plane whose blob folder or database lies on a real disk that fills up: refused with a code, served on, whole again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from contracts.operator import EventView
from control_plane.store.events import first_broken
from tests.integration.control_process import ControlProcess, ScriptedDevice, check_refused
from tests.integration.small_disk import MEGABYTE, SmallDisk, small_disk
from tests.integration.sync_site import until

EVENT = {"kind": "event", "event": "started"}


def put(control: ControlProcess, content: bytes) -> Any:
    return control.operators("PUT", f"/v1/blobs/{hashlib.sha256(content).hexdigest()}", content)


def blobs(disk: SmallDisk) -> list[str]:
    return sorted(path.name for path in disk.folder.rglob("*") if path.is_file() and path.name != "ballast")


def test_a_full_blob_folder_refuses_the_upload_and_serves_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "blobs") as disk:
        control = ControlProcess(tmp_path / "site", blob_dir=disk.folder).start()
        device = ScriptedDevice.enrol(control, tmp_path)
        known, large = os.urandom(200_000), os.urandom(3 * MEGABYTE)
        assert put(control, known).status == 201
        there = blobs(disk)
        for leave_bytes in (0, MEGABYTE):  # refused at its first byte, and in the middle
            disk.full(leave_bytes)
            refused = put(control, large)
            check_refused(refused, 507, "API_STORAGE")
            assert f"{disk.folder}: storing blob" in refused.json["detail"]
            assert "No space left on device" in refused.json["detail"]
            assert blobs(disk) == there, "nothing of it stays, under no name"
        path = f"/device/v1/blobs/{hashlib.sha256(known).hexdigest()}"
        assert device.http("GET", path).body == known
        assert device.poll().status == 200
        assert device.report("", EVENT, fence=0).status == 200
        disk.room()
        assert put(control, large).status == 201
        assert device.http("GET", f"/device/v1/blobs/{hashlib.sha256(large).hexdigest()}").body == large
        assert control.stop() == 0


def test_a_full_database_refuses_what_it_cannot_keep_and_answers_polls(tmp_path: Path) -> None:
    """Reports are tried again by the agent, which keeps them until they are answered."""
    site = tmp_path / "site"
    site.mkdir()
    with small_disk(site / "state") as disk:
        control = ControlProcess(site, last_seen_flush_s=0.2).start()
        device = ScriptedDevice.enrol(control, tmp_path)
        etag = device.poll().headers["etag"]
        pid, seq = control.pid, control.events()[-1]["seq"]
        disk.full()
        refused, sent = device.report("", EVENT, fence=0), 1
        while refused.status == 200:  # the log of the database has room of its own
            refused, sent = device.report("", EVENT, fence=0), sent + 1
            assert sent < 5000
        check_refused(refused, 507, "API_STORAGE")
        assert "database or disk is full" in refused.json["detail"]
        check_refused(control.operators("POST", "/v1/enrolment-tokens", {}), 507, "API_STORAGE")
        assert device.poll(etag).status == 304, "the heartbeat is answered from memory"
        device.poll()
        log = control.folder / "control.log"
        _until(log, '"event": "control_waits"')
        disk.room()
        device.seq[""] -= 1
        assert device.report("", EVENT, fence=0).json == {"accepted": {"": sent}}, "the very report that was refused, once"
        _until(log, '"event": "control_recovered"')
        assert control.pid == pid
        assert control.stop() == 0
        assert "Traceback" not in log.read_text()
        events = [EventView.model_validate(line) for line in _events_after_restart(control)]
        assert first_broken(events) is None
        assert [line.event for line in events if line.seq > seq].count("device_event") == sent


def _events_after_restart(control: ControlProcess) -> list[dict[str, Any]]:
    control.start()
    lines: list[dict[str, Any]] = []
    while page := control.events(lines[-1]["seq"] if lines else 0):
        lines += page
    assert control.stop() == 0
    return lines


def _until(log: Path, text: str) -> None:
    until(lambda: text in log.read_text(), f"the log says {text}")
