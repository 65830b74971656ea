"""What the loops need of the world. Production: edge_agent/adapters, inference/host.py, pipeline/link.py, sync/uplink.
Simulators in tests/simulators implement the same Protocols and pass the same contract suites.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from contracts.manifest import Manifest


@dataclass(frozen=True)
class WorkerDeath:
    """An unasked end of a worker while its agent lives; `circuit_open` after 5 in 10 minutes."""

    digest: str
    returncode: int
    circuit_open: bool


class Workers(Protocol):
    """Loaded model versions, one process each, behind an arena each. Restarts with back-off by itself."""

    deaths: asyncio.Queue[WorkerDeath]

    async def load(self, digest: str, slot: Path, manifest: Manifest) -> None:
        """Spawn, warm up, check golden vectors, limits and finiteness; return when ready. Loading twice is one load.

        Raises RejectedError BUNDLE_GOLDEN, BUNDLE_LIMITS, BUNDLE_SELF_TEST, WORKER_MODEL, WORKER_NOT_FINITE
        or LocalFaultError WORKER_START; then nothing of it is left running.
        """

    async def unload(self, digest: str) -> None:
        """End the worker and free its arena; nothing happens when it is not loaded."""

    def loaded(self) -> frozenset[str]: ...

    def route(self, digest: str) -> tuple[dict[str, Any], tuple[int, ...]]:
        """What a client of this worker needs: the `route` of contracts/pipeline.py, and [memfd, request eventfd, response eventfd]."""

    def pids(self) -> dict[str, int]: ...


class Pipeline(Protocol):
    """The pipeline process: frames in, rows and windows out. Restarted with back-off by itself, with its last routes."""

    windows: asyncio.Queue[dict[str, Any]]  # `window` messages of contracts/pipeline.py

    async def route(self, live: str | None, shadow: str | None) -> int:
        """Send live frames to `live` and copies to `shadow` (digests of loaded workers); the first frame number that went so."""

    def pid(self) -> int | None: ...
