"""One thread writes to a connection: OpenSSL does not survive two, and publishing from elsewhere once corrupted records and memory."""

from __future__ import annotations

import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts import topics
from deploy.local import proc
from sync import mqtt
from tests.integration.mosquitto import Mosquitto

DEVICE = "dev-" + "a" * 26
DEADLINE_S = 20.0


@pytest.fixture
def broker(open_folder: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(open_folder)
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


def test_it_opens_no_connection_but_the_one_to_the_broker(broker: Mosquitto) -> None:
    before = tcp_peers()
    events: queue.Queue[mqtt.Event] = queue.Queue()
    link = mqtt.dial(broker.settings(DEVICE, (topics.ack(DEVICE),)), 1, events.put)
    assert isinstance(events.get(timeout=DEADLINE_S), mqtt.Connected)
    link.publish(topics.up(DEVICE, "live"), b"x")
    assert isinstance(events.get(timeout=DEADLINE_S), mqtt.Published)
    assert tcp_peers() - before == {broker.port}
    link.close()


def tcp_peers() -> set[int]:
    """Ports to which this process is connected."""
    return set(proc.open_things(os.getpid()).tcp_peers)


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


def evil_broker(announced: int) -> Iterator[tuple[int, threading.Event]]:
    """Takes one connection, and sends a publication of `announced` bytes until it is cut off."""
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(bytes.fromhex("2003000000"))  # CONNACK
                connection.recv(1000)
                connection.sendall(bytes.fromhex("9004000100") + b"\x01")  # SUBACK
                connection.sendall(b"\x30" + _variable(announced) + b"\x00\x05topic\x00")
                try:
                    for _ in range(announced // 65536):
                        connection.sendall(bytes(65536))
                except OSError:
                    stopped.set()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], stopped
        thread.join(DEADLINE_S)


def _variable(length: int) -> bytes:
    """MQTT's variable byte integer."""
    encoded = bytearray()
    while length:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
    return bytes(encoded)


@pytest.fixture
def flood() -> Iterator[tuple[int, threading.Event]]:
    yield from evil_broker(announced=200 * 1024 * 1024)


def test_a_packet_without_end_ends_the_connection(flood: tuple[int, threading.Event]) -> None:
    """Else a broker could fill a device's memory until its agent, and with it its model, is killed."""
    port, stopped = flood
    events: queue.Queue[mqtt.Event] = queue.Queue()
    mqtt.dial(mqtt.Settings("127.0.0.1", port, "x", ("a",), None), 1, events.put)
    assert isinstance(events.get(timeout=DEADLINE_S), mqtt.Connected)
    lost = events.get(timeout=DEADLINE_S)
    assert isinstance(lost, mqtt.Lost)
    assert lost.reason == mqtt.PACKET_TOO_LARGE
    assert stopped.wait(DEADLINE_S)
