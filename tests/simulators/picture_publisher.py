"""A real mosquitto without TLS on loopback, and a program that publishes pictures through it."""

from __future__ import annotations

import io
import socket
import subprocess
import threading
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from PIL import Image

from tests.simulators.mjpeg_camera import SIZE

TOPIC = "line/belt"
DEADLINE_S = 10.0
_STEP_S = 0.02


class PicturePublisher:
    def __init__(self, folder: Path) -> None:
        """Nothing runs before `start`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self._port} 127.0.0.1\nallow_anonymous true\nlog_dest none\n")
        self.url = f"mqtt://127.0.0.1:{self._port}/{TOPIC}"
        self.picture = Image.new("RGB", SIZE, (9, 8, 7))
        self.rubbish, self._closed = threading.Event(), threading.Event()
        self._broker: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._publish, daemon=True)

    def start(self) -> None:
        """The broker, and once the pictures."""
        if self._broker is None or self._broker.poll() is not None:
            self.start_broker()
        if self._thread.ident is None:
            self._thread.start()

    def start_broker(self) -> None:
        self._broker = subprocess.Popen(["/usr/sbin/mosquitto", "-c", str(self._config)])

    def keep(self) -> None:
        """One picture, which the broker keeps for those who come later. Returns when it has it."""
        client, connected = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5), threading.Event()
        client.on_connect = lambda *_: connected.set()
        client.reconnect_delay_set(1, 1)
        client.connect_async("127.0.0.1", self._port)
        client.loop_start()
        assert connected.wait(DEADLINE_S)
        client.publish(TOPIC, self._png(), qos=1, retain=True).wait_for_publish(DEADLINE_S)
        client.disconnect()
        client.loop_stop()

    def kill_broker(self) -> None:
        if self._broker is not None:
            self._broker.kill()
            self._broker.wait(DEADLINE_S)

    def close(self) -> None:
        self._closed.set()
        self.kill_broker()

    def _publish(self) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        picture = self._png()
        client.reconnect_delay_set(1, 1)
        client.connect_async("127.0.0.1", self._port)
        client.loop_start()
        while not self._closed.wait(_STEP_S):
            client.publish(TOPIC, b"no picture" if self.rubbish.is_set() else picture, qos=0)
        client.loop_stop()

    def _png(self) -> bytes:
        picture = io.BytesIO()
        self.picture.save(picture, "PNG")
        return picture.getvalue()
