"""One thread writes to a connection: OpenSSL does not survive two, and publishing from elsewhere once corrupted records and memory."""

from __future__ import annotations

import queue
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts import topics
from sync import mqtt
from tests.integration.mosquitto import Mosquitto

DEVICE = "dev-" + "a" * 26
DEADLINE_S = 20.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)
    broker = Mosquitto(tmp_path)
    broker.certificates.issue(DEVICE)
    broker.start()
    yield broker
    broker.kill()


class RecordingSocket(ssl.SSLSocket):
    """Notes which threads write."""

    writers: set[int] = set()

    def send(self, data: Any, flags: int = 0) -> int:
        self.writers.add(threading.get_ident())
        return super().send(data, flags)


def test_what_is_published_leaves_at_once(broker: Mosquitto) -> None:
    """The thread that serves the connection is woken; paho's own period is a second."""
    events: queue.Queue[mqtt.Event] = queue.Queue()
    link = mqtt.dial(broker.settings(DEVICE, (topics.ack(DEVICE),)), 1, events.put)
    assert isinstance(events.get(timeout=DEADLINE_S), mqtt.Connected)
    began_s = time.monotonic()
    for _ in range(20):
        link.publish(topics.up(DEVICE, "live"), b"x")
        assert isinstance(events.get(timeout=DEADLINE_S), mqtt.Published)
    assert time.monotonic() - began_s < 10, "a second each would be twenty"
    link.close()


def test_only_the_links_own_thread_writes(broker: Mosquitto) -> None:
    settings = broker.settings(DEVICE, (topics.ack(DEVICE),))
    assert settings.tls is not None
    settings.tls.sslsocket_class = RecordingSocket
    events: queue.Queue[mqtt.Event] = queue.Queue()
    link = mqtt.dial(settings, 1, events.put)
    assert isinstance(events.get(timeout=DEADLINE_S), mqtt.Connected)
    publishers = [threading.Thread(target=link.publish, args=(topics.up(DEVICE, "live"), b"x" * 5000)) for _ in range(40)]
    for publisher in publishers:
        publisher.start()
    answers = [events.get(timeout=DEADLINE_S) for _ in publishers]
    assert {type(answer) for answer in answers} == {mqtt.Published}
    link.close()
    assert isinstance(events.get(timeout=DEADLINE_S), mqtt.Lost)
    assert len(RecordingSocket.writers) == 1
    assert threading.get_ident() not in RecordingSocket.writers
