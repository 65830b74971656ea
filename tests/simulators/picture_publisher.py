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
        self._broker = subprocess.Popen(["/usr/sbin/mosquitto", "-c", str(self._config)])
        if self._thread.ident is None:
            self._thread.start()

    def kill_broker(self) -> None:
        if self._broker is not None:
            self._broker.kill()
            self._broker.wait(DEADLINE_S)

    def close(self) -> None:
        self._closed.set()
        self.kill_broker()

    def _publish(self) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        picture = io.BytesIO()
        self.picture.save(picture, "PNG")
        client.reconnect_delay_set(1, 1)
        client.connect_async("127.0.0.1", self._port)
        client.loop_start()
        while not self._closed.wait(_STEP_S):
            client.publish(TOPIC, b"no picture" if self.rubbish.is_set() else picture.getvalue(), qos=0)
        client.loop_stop()
