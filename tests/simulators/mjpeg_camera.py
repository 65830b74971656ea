"""A camera as many are sold: MJPEG over HTTP, picture k is grey at level k. Loopback only; it can hang up, fall silent, and come back."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

SIZE = (64, 48)
_STEP_S = 0.02


class MjpegCamera:
    def __init__(self) -> None:
        self.connections = 0
        self.silent, self.hang_up = threading.Event(), threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.connections += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                camera._send(self.wfile)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._closed = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/stream"

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _send(self, to: Any) -> None:
        level = 0
        while not self._closed.wait(_STEP_S):
            if self.hang_up.is_set():
                self.hang_up.clear()
                return
            if self.silent.is_set():
                continue
            level = (level + 1) % 250
            try:
                to.write(_part(level))
            except OSError:
                return


def _part(level: int) -> bytes:
    picture = io.BytesIO()
    Image.new("L", SIZE, level).save(picture, "JPEG")
    data = picture.getvalue()
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)
