"""The memory that a worker may have. The kernel holds it to that: an allocation beyond it fails in this process and nowhere else.

RLIMIT_DATA counts private writable memory: heaps, stacks of threads, buffers, touched or not. It does not count mapped files, the arena
and the address ranges that an accelerator's runtime reserves, for which RLIMIT_AS would be far too small (docs/adr/0011).
"""

from __future__ import annotations

import os
import resource
import sys

_PAGE_BYTES = resource.getpagesize()


class Budget:
    def __init__(self, memory_bytes: int) -> None:
        """From now on and for good, `memory_bytes` more than the process holds already, which is the interpreter with numpy."""
        _, already = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = min(held_bytes() + memory_bytes, sys.maxsize)
        self._limit_bytes = wanted if already == resource.RLIM_INFINITY else min(wanted, already)
        resource.setrlimit(resource.RLIMIT_DATA, (self._limit_bytes, self._limit_bytes))
        self._ready_bytes = held_bytes()

    def ready(self) -> None:
        """The model is loaded and has been run: what is held now, it needs."""
        self._ready_bytes = held_bytes()

    def leaked(self) -> bool:
        """More than half of what was left when the model was ready is held, though nothing is computed."""
        return 2 * (held_bytes() - self._ready_bytes) > self._limit_bytes - self._ready_bytes


def held_bytes() -> int:
    """What RLIMIT_DATA counts of this process, and its main stack."""
    descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(descriptor, 128).split()[5]) * _PAGE_BYTES
    finally:
        os.close(descriptor)
