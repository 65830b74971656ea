"""Is there room for one more worker? Asked before it is spawned: a model that does not fit must not push out the one that answers. PURE."""

from __future__ import annotations

from contracts.errors import error


def check_room(model: str, wanted_bytes: int, available_bytes: int | None, reserve_bytes: int) -> None:
    """Raises LocalFaultError WORKER_MEMORY.

    `wanted_bytes`: the limit that the manifest states. `available_bytes`: what the kernel could give without swapping (MemAvailable in
    procfs), so what runs already is counted; None where nobody says it, and then nobody is refused.
    """
    if available_bytes is not None and wanted_bytes > available_bytes - reserve_bytes:
        raise error("WORKER_MEMORY", model, f"may need {wanted_bytes} bytes; {available_bytes} are available, {reserve_bytes} stay free")
