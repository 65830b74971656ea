"""Models, builds and releases, put together; and the loop that carries on what was left half-way.

The loop's pass: sign what is approved, crown what succeeded, and every `registry_poll_s` look for aliases moved by others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from contracts.errors import RejectedError, SkerryError, TransientError, TrustError
from control_plane.adapters.blobs import BlobStore
from control_plane.adapters.signer_client import SignerClient
from control_plane.config import ControlConfig
from control_plane.services import releases as release_cases
from control_plane.services.models import Models
from control_plane.services.models_crown import Crown
from control_plane.services.models_later import OpenedLater
from control_plane.services.models_port import ModelRegistry
from control_plane.services.releases import Approvers
from control_plane.services.releases_open import Building
from control_plane.services.releases_state import APPROVED
from control_plane.services.trace import Tracing
from control_plane.services.unit_of_work import Units
from control_plane.store import releases
from program.clock import Clock
from program.log import Log

log = Log("registry")
APPROVER_FILES = "approver*.pub"


@dataclass
class RegistryPart:
    """What routes and the loop work with; `Plane.models`."""

    models: Models
    approvers: Approvers
    signer: SignerClient
    tracing: Tracing
    clock: Clock
    build_lease_s: float
    poll_s: float

    @classmethod
    def open(cls, config: ControlConfig, units: Units, blobs: BlobStore, clock: Clock) -> RegistryPart:
        """Quick: the registry itself (5 s the first time) is opened by the loop's first pass, or by an earlier request."""
        registry = OpenedLater(lambda: _open_registry(config))
        models = Models(registry, units, blobs, Building(config.build_profiles, max(1, config.security_epoch_floor)))
        keys = tuple(bytes.fromhex(path.read_text().strip()) for path in sorted(config.public_dir.glob(APPROVER_FILES)))
        tracing = Tracing(blobs, registry, config.image_repo_dir)
        return cls(
            models, Approvers(keys), SignerClient(config.signer_socket), tracing, clock, config.build_lease_s, config.registry_poll_s
        )

    def close(self) -> None:
        self.models.registry.close()

    async def run(self, stop: asyncio.Event) -> None:
        """Passes until `stop`: one after each commit, and at least one every `poll_s`."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def committed() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        self.models.units.on_commit(committed)
        crown = await asyncio.to_thread(Crown, self.models, log)
        tending = asyncio.create_task(self._tend(changed, crown), name="registry")
        stopping = asyncio.create_task(stop.wait(), name="registry-stop")
        done, _ = await asyncio.wait({tending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (tending, stopping):
            task.cancel()
        await asyncio.gather(tending, stopping, return_exceptions=True)
        if tending in done:
            tending.result()  # an unforeseen exception ends the process

    async def _tend(self, changed: asyncio.Event, crown: Crown) -> None:
        waits = _Waits()
        polled_mono = float("-inf")
        while True:
            changed.clear()
            steps: list[Callable[[], None]] = [self.sign_approved, crown.follow]
            if self.clock.mono() - polled_mono >= self.poll_s:
                polled_mono = self.clock.mono()
                steps.append(self.models.reconcile)
            for step in steps:
                await asyncio.to_thread(waits.attempt, step)
            await self.clock.wait(changed, self.poll_s)

    def sign_approved(self) -> None:
        with self.models.units.read() as session:
            approved = [row.id for row in releases.in_state(session, APPROVED)]
        for release_id in approved:
            self.sign(release_id)

    def sign(self, release_id: str) -> None:
        """Raises SIGNER_UNREACHABLE; a refusal is recorded with the release, and is not the loop's affair."""
        try:
            release_cases.sign(self.models.units, self.signer, self.models.blobs, release_id)
        except (RejectedError, TrustError) as refused:
            log.alarm("release_refused", release=release_id, code=refused.code, detail=str(refused))


class _Waits:
    """Says the first failure and the recovery of each step, and nothing in between."""

    def __init__(self) -> None:
        self._failing: dict[str, str] = {}

    def attempt(self, step: Callable[[], None]) -> None:
        name = step.__name__
        try:
            step()
        except (TransientError, RejectedError) as failed:
            self._failed(name, failed)
        else:
            if self._failing.pop(name, None):
                log("registry_recovered", step=name)

    def _failed(self, name: str, failed: SkerryError) -> None:
        if self._failing.get(name) != failed.code:
            self._failing[name] = failed.code
            log.alarm("registry_waits", step=name, code=failed.code, detail=str(failed))


def _open_registry(config: ControlConfig) -> ModelRegistry:
    from control_plane.adapters.mlflow_registry import MlflowRegistry  # noqa: PLC0415 - two seconds that no device should wait for

    if config.registry_url:
        return MlflowRegistry.server(config.registry_url)
    return MlflowRegistry.embedded(config.registry_file, config.registry_artifacts)
