"""A device with a good certificate and key that sends rubbish to the real ingest: told by code, never fatal, and other rows go on."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts import topics
from contracts.batch import MAX_BATCH_BYTES
from sync import mqtt
from tests.integration.sync_site import SyncSite, rows_of, until
from tests.property.test_malformed_batches import BOMB_BYTES, arrow_body, bomb, honest, signed
from tests.simulators.row_path import DEVICE, DEVICE_KEY, SCHEMA

STREAM = f"{DEVICE}/live/{'0' * 16}"
TOPIC = topics.up(DEVICE, "live")


@pytest.fixture
def site(open_folder: Path) -> Iterator[SyncSite]:
    site = SyncSite(open_folder)
    try:
        yield site
    finally:
        site.close()


class Sender:
    """A connection with the device's certificate, without outbox and rules."""

    def __init__(self, site: SyncSite) -> None:
        self._events: queue.Queue[Any] = queue.Queue()
        self._link = mqtt.dial(site.broker.settings(DEVICE, (topics.ack(DEVICE),)), 1, self._events.put)
        self._wait_for(mqtt.Connected)

    def send(self, *messages: bytes) -> None:
        """Returns when the broker has them."""
        for message in messages:
            self._link.publish(TOPIC, message)
        for _ in messages:
            self._wait_for(mqtt.Published)

    def close(self) -> None:
        self._link.close()

    def _wait_for(self, kind: type[Any]) -> None:
        while not isinstance(event := self._events.get(timeout=20), kind):
            assert not isinstance(event, mqtt.Lost), event


def test_rubbish_is_told_by_code_and_the_rows_of_others_go_on(site: SyncSite) -> None:
    site.broker.start()
    site.start_ingest()
    good = site.device("b")
    good.start()
    site.broker.certificates.issue(DEVICE)
    site.registry.know(DEVICE, {DEVICE_KEY.key_id: DEVICE_KEY.public})
    site.registry.learn(SCHEMA)
    ingest, whole = site.figures()["pid"], signed(honest()[1])
    forged = [b"", b"\0", b"\xff\xff" + bytes(80), whole[: len(whole) // 2], whole[:-1], b"PAR1" + whole, bytes(MAX_BATCH_BYTES + 1)]
    of_the_device = [arrow_body("zstd", 100_000), arrow_body("lz4", 100_000), bomb(claims=True), bomb(claims=False), b"", b"rubbish"]

    sender = Sender(site)
    good.accept(rows_of(0, 20))
    sender.send(*forged)
    sender.send(*(signed(body, seq=seq, last_seq=seq) for seq, body in enumerate(of_the_device, start=1)))
    good.accept(rows_of(20, 20))
    until(lambda: site.figures()["streams"].get(STREAM, {}).get("acked_seq") == len(of_the_device), "what its device has signed is settled")
    until(good.drained, "the rows of another device are acknowledged")
    assert site.figures()["refused_batches"] == len(forged)
    assert site.figures()["pid"] == ingest
    assert peak_mb(ingest) < BOMB_BYTES >> 20, "no bomb was unpacked"
    sender.close()
    assert site.stop_ingest() == 0
    streams = site.audit()["streams"]
    assert streams[STREAM]["quarantine"] == streams[STREAM]["rows"] > 0, "quarantined with its count, none of it in bronze"
    assert streams[next(iter(good.outbox.ledger()))]["bronze"] == 40


def peak_mb(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) // 1024
