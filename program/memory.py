"""Memory of a program whose work comes in large pieces: tensors, frames."""

from __future__ import annotations

import ctypes

# malloc.h, mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
MIB = 1024**2
OPTIONS = {_MMAP_THRESHOLD: 32 * MIB, _TRIM_THRESHOLD: 64 * MIB, _ARENA_MAX: 2}


def keep_freed() -> None:
    """Freed memory stays with the process, up to 64 MiB, for the next tensor.

    glibc would give pieces of 128 KiB and more back to the kernel and have each page faulted in again by the next piece: for a frame of
    640 x 480 that took more than twice as long as its pre-processing. Few arenas, because each keeps what its threads have freed. Another
    C library has other habits, and none of these options.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in OPTIONS.items():
            mallopt(option, value)
