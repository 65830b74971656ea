"""The newest frame of something that brings frames by itself. A thread reads and reconnects; `take` never waits.

A camera that is faster than the pipeline loses frames here, in front of the count, as it does in any buffer of one; one that is slower,
or silent, leaves frames without a picture, which are refused and counted. No picture is answered twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from edge_agent.inference.circuit import backoff_s
from edge_agent.pipeline.sources.frame_error import FrameError

Array = Any


class Newest:
    def __init__(self, name: str, connect: Callable[[], Iterator[Array | FrameError]]) -> None:
        """`connect` may wait; what it gives may end, or raise FrameError. Then it is called again, later each time until a frame comes.

        A FrameError that is given, not raised, is the reason for one frame that came and cannot be used.
        """
        self._name, self._connect = name, connect
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._frame: Array | None = None
        self._why = "no frame yet"
        self._failures = 0
        self._thread = threading.Thread(target=self._read, name=f"source {name}", daemon=True)
        self._thread.start()

    def take(self, frame_no: int) -> Array:
        if not self._thread.is_alive():
            raise RuntimeError(f"the reader of {self._name} ended by what nobody foresaw")
        with self._lock:
            frame, self._frame = self._frame, None
            if frame is None:
                raise FrameError(f"{self._name}: {self._why}")
            return frame

    def close(self) -> None:
        """The thread ends with the frame that it waits for."""
        self._stopped.set()

    def _read(self) -> None:
        while not self._stopped.is_set():
            self._failures += 1
            try:
                self._keep(self._connect())
                self._why = "it has ended"
            except FrameError as missing:
                self._why = str(missing)
            self._stopped.wait(backoff_s(self._failures))

    def _keep(self, frames: Iterator[Array | FrameError]) -> None:
        for frame in frames:
            if self._stopped.is_set():
                return
            with self._lock:
                if isinstance(frame, FrameError):
                    self._why = str(frame)
                else:
                    self._frame, self._why, self._failures = frame, "no new frame", 0
