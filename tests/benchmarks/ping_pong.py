"""The floor under two processes that hand work to each other: two eventfds and the computing itself, nothing else.

The far side runs the very model on a buffer of its own before it answers. A floor that computed nothing would be too low: a wake-up costs
more the longer the sleeper has slept, and the model throws the interpreter out of the processor's caches.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

REPO = Path(__file__).parents[2]
FAR_SIDE = """
import os, sys
from pathlib import Path
from contracts.manifest import Manifest
from tests.benchmarks.bare import bare
request, response, slot = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
compute = bare(slot, Manifest.model_validate_json((slot / "manifest.json").read_bytes()))
while True:
    os.read(request, 8)
    compute()
    os.write(response, b"\\1\\0\\0\\0\\0\\0\\0\\0")
"""
ONE, ENDED = (1).to_bytes(8, "little"), (1 << 32).to_bytes(8, "little")


class PingPong:
    """`with PingPong(slot) as floor: floor.call()`: one round trip, computing included."""

    def __init__(self, slot: Path) -> None:
        self._slot = slot

    def __enter__(self) -> PingPong:
        self._request, self._response = os.eventfd(0), os.eventfd(0)
        ends = (self._request, self._response)
        self._far = subprocess.Popen([sys.executable, "-c", FAR_SIDE, *map(str, ends), str(self._slot)], cwd=REPO, pass_fds=ends)
        self._watch = threading.Thread(target=self._wake_when_it_ends, name="ping-pong")
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._far.kill()
        self._watch.join()
        os.close(self._request)
        os.close(self._response)

    @property
    def pid(self) -> int:
        """Of the far side."""
        return self._far.pid

    def call(self) -> None:
        """Raises AssertionError when the far side has ended."""
        os.write(self._request, ONE)
        if os.read(self._response, 8) != ONE:
            raise AssertionError("the far side has ended")

    def _wake_when_it_ends(self) -> None:
        """Whoever waits for its answer; a deadline in each call would be a part of what is measured."""
        self._far.wait()
        os.write(self._response, ENDED)
