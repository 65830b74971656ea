"""How much freed memory a program keeps. By glibc's mallopt(3); another C library has other habits, and none of these options."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
MIB = 1024**2


def keep_freed() -> None:
    """Freed memory stays with the process, up to 64 MiB, for the next tensor or frame.

    glibc would give pieces of 128 KiB and more back to the kernel and have each page faulted in again by the next piece: for a frame of
    640 x 480 that took more than twice as long as its pre-processing.
    """
    _set(_MMAP_THRESHOLD, 32 * MIB)
    _set(_TRIM_THRESHOLD, 64 * MIB)
    limit_arenas(2)


def limit_arenas(most: int) -> None:
    """Else each thread has a heap of its own, which keeps what was freed there. Before threads are started."""
    _set(_ARENA_MAX, most)


def _set(option: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)
