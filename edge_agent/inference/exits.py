"""How a worker ends by itself, and what its agent calls it. Standard library, clean for Python 3.8: both sides use it."""

from __future__ import annotations

STICKY = 70  # the backend's context is poisoned
MEMORY = 71  # the process has no room left within its model's budget


def code_of(returncode: int) -> str:
    """The code of contracts/errors.py for an end that nobody asked for; negative return codes are signals."""
    return "BUNDLE_LIMITS" if returncode == MEMORY else "WORKER_CRASH"
