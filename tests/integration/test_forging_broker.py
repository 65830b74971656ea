"""A broker that forges batches and acks, on real parts: it costs no row, invents none, and each forgery is told with its code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.topics import acl_file
from tests.integration.sync_site import REPO, Device, SyncSite, rows_of, until

ATTACKER = "svc-control-1"  # a certificate that the broker lets in; what it may do there, the broker's holder decides


@pytest.fixture
def site(open_folder: Path) -> Iterator[SyncSite]:
    site = SyncSite(open_folder)
    site.broker.start()
    try:
        yield site
    finally:
        site.close()


def open_to_the_attacker(site: SyncSite) -> None:
    """What whoever holds the broker can do."""
    acl = site.folder / "broker" / "acl"
    acl.write_text(acl_file(["svc-ingest-1"]) + f"\nuser {ATTACKER}\ntopic readwrite #\n")
    os.kill(site.broker.pid, signal.SIGHUP)


def forge(site: SyncSite, device: Device, other: Device) -> list[dict[str, Any]]:
    own = {name: site.broker.certificates.path(f"{ATTACKER}.{ending}") for name, ending in {"certificate": "crt", "key": "key"}.items()}
    arguments = {"port": site.broker.port, "ca": site.broker.certificates.path("ca.crt"), **own, "device": device.id, "other": other.id}
    argv = [sys.executable, "-m", "deploy.local.attackers.broker"]
    argv += [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    with subprocess.Popen(argv, cwd=REPO, stdout=subprocess.PIPE, text=True) as attacker:
        frame = 1000
        while attacker.poll() is None:  # he needs a batch to pass
            device.accept(rows_of(frame, 5))
            frame += 5
            until(device.drained, "the batch is acknowledged")
        assert attacker.stdout is not None
        said: dict[str, Any] = json.loads(attacker.stdout.read())
    assert attacker.returncode == 0, said
    return list(said["sent"])


def test_a_forging_broker_costs_no_row_and_invents_none(site: SyncSite) -> None:
    site.start_ingest(flush_s=0.1)
    device, other = site.device("a"), site.device("b")
    for one in (device, other):
        one.start()
        one.accept(rows_of(0, 20))
    until(lambda: device.drained() and other.drained(), "both have an ack")
    open_to_the_attacker(site)
    sent = forge(site, device, other)
    wanted = {
        (one["code"], other.id if one["code"] == "INGEST_IDENTITY" else device.id) for one in sent if one["code"].startswith("INGEST")
    }
    until(lambda: wanted <= set(site.registry.alarms), "each forged batch is told")
    until(lambda: {alarm.code for alarm in device.alarms} >= {"ACK_SIGNATURE", "ACK_DEVICE"}, "each forged ack is told")
    until(lambda: "INGEST_SIGNATURE" in device.nacks, "the device hears of what was sent in its name")
    device.accept(rows_of(5000, 7))
    until(lambda: device.drained() and other.drained(), "rows go on")
    assert site.figures()["refused_batches"] == len([one for one in sent if one["code"].startswith("INGEST")]) == 4
    assert other.alarms == []
    audit = site.audit()
    ledgers = {stream: entry for one in (device, other) for stream, entry in one.outbox.ledger().items() if entry.accepted_seq}
    assert audit["clean"], audit
    assert {stream: (found["rows"], found["running_hash"]) for stream, found in audit["streams"].items()} == {
        stream: (entry.accepted_rows, entry.running_hash) for stream, entry in ledgers.items()
    }
