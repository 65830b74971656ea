"""A camera that speaks RTSP, as a process: it can freeze with its connections open, stop its picture alone, die, and come
back on the same port.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")
SIZE = (160, 120)


class RtspCamera:
    def __init__(self) -> None:
        self._port = "0"
        self.start()
        self.url = f"rtsp://127.0.0.1:{self._port}/line"

    def start(self) -> None:
        command = [SYSTEM_PYTHON, str(SERVER), self._port, *map(str, SIZE)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self._port = self._process.stdout.readline().strip()
        assert self._port, "apt-get install the GStreamer packages of ./dev (./dev test does)"

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def stop_picture(self) -> None:
        self._process.send_signal(signal.SIGUSR1)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def die(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def close(self) -> None:
        self.die()
