"""What the loops need of the world. Production: edge_agent/adapters, inference/host.py, pipeline/link.py, sync/uplink.
Simulators in tests/simulators implement the same Protocols and pass the same contract suites.

A method that is not `async` may block; the loops call it by `asyncio.to_thread` where its docstring says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from contracts.assignment import Assignment
from contracts.manifest import Manifest
from contracts.reports import ReportAnswer, ReportBatch
from edge_agent.core.admission import AdmittedBundle, ImageTarget
from edge_agent.core.floors import Floors
from edge_agent.core.record import Record
from edge_agent.inference.exits import code_of


@dataclass(frozen=True)
class WorkerDeath:
    """An unasked end of a worker while its agent lives; `circuit_open` after 5 in 10 minutes."""

    digest: str
    returncode: int
    circuit_open: bool

    @property
    def code(self) -> str:
        """WORKER_CRASH, or BUNDLE_LIMITS when the model wanted more memory than its manifest states."""
        return code_of(self.returncode)


class Workers(Protocol):
    """Loaded model versions, one process each, behind an arena each. Restarts with back-off by itself."""

    deaths: asyncio.Queue[WorkerDeath]

    def check_room(self, digest: str, manifest: Manifest) -> None:
        """Raises LocalFaultError WORKER_MEMORY when a worker of this bundle would leave too little memory to those that run."""

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


@dataclass(frozen=True)
class PendingReport:
    """One report as it will travel; dense `seq` per execution."""

    execution: str
    seq: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """A report without its number: the store gives it, in the transaction that makes the report durable."""

    execution: str
    body: dict[str, Any]


class Store(Protocol):
    """agent.db. Each call is one durable transaction."""

    def record(self) -> Record: ...

    def save(self, record: Record, reports: Sequence[Draft] = ()) -> None:
        """The record and what has to be reported of it, together or not at all."""

    def add_reports(self, reports: Sequence[Draft]) -> None: ...

    def pending(self, limit: int) -> list[PendingReport]:
        """Reports that the server has not confirmed, oldest first."""

    def waiting(self) -> int:
        """How many reports are pending."""

    def confirm_reports(self, accepted: dict[str, int]) -> None:
        """Drop the reports up to the server's highest contiguous number per execution."""

    def floors(self) -> Floors: ...

    def set_floors(self, floors: Floors) -> None:
        """Floors only rise: the stored ones are the larger of both."""

    def journal(self, event: str, fields: dict[str, Any]) -> None: ...


class Trust(Protocol):
    """Both TUF repositories. Methods block: call them in a thread."""

    def poll(self) -> Assignment:
        """The verified assignment of now, which may be the one known before. Raises TUF_* and ASSIGNMENT_* errors."""

    def manifest(self, path: str, stopped: Callable[[], bool]) -> tuple[ImageTarget, bytes]:
        """A manifest's verified bytes with what the image repository says of it. Raises BUNDLE_NOT_IN_IMAGE, TUF_*."""


class Slots(Protocol):
    """slots/: the only writer. Methods block: call them in a thread."""

    def check_space(self, admitted: AdmittedBundle) -> None:
        """Raises LocalFaultError BUNDLE_NO_SPACE."""

    def stage(self, admitted: AdmittedBundle, stopped: Callable[[], bool]) -> None:
        """Fetch the missing members into .staging, each verified by chunk and digest. Resumes what lies there."""

    def seal(self, digest: str) -> None:
        """Verify all of .staging/<digest>, the model signature too, and move it to its final name. Sealing twice is one seal."""

    def digests(self) -> frozenset[str]:
        """Of the slots that are sealed."""

    def manifest(self, digest: str) -> Manifest:
        """Of a sealed slot. Raises TrustError BUNDLE_MEMBER_DIGEST when a file is missing or altered."""

    def verify(self, digest: str) -> Manifest:
        """Re-hash a sealed slot whole. Raises TrustError BUNDLE_MEMBER_DIGEST."""

    def path(self, digest: str) -> Path: ...

    def activate(self, digest: str) -> None:
        """`current` names `digest` ("" = none), `previous` what it named before; one atomic switch, durable."""

    def current(self) -> str: ...

    def keep_only(self, digests: frozenset[str]) -> None:
        """Delete the slots and staging folders of all others; never what `current` names."""


class ControlPlane(Protocol):
    """The rest of /device/v1. Methods block: call them in a thread."""

    def report(self, batch: ReportBatch) -> ReportAnswer: ...
