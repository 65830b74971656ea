"""The model repository extension on the agent's side: what may be loaded are the admitted slots, and nothing else.

What the agent itself needs is its own: the live model and the one that an update is about are neither loaded nor unloaded here. One request
at a time is worked on, and none beside a step of an update (turn.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from contracts.errors import error
from contracts.manifest import Manifest
from edge_agent.core.record import Record
from edge_agent.loops.turn import Turn
from edge_agent.ports import Slots, Workers


class SlotRepository:
    """Implements `edge_agent.inference.oip.link.Repository`."""

    def __init__(
        self,
        slots: Slots,
        workers: Workers,
        record: Callable[[], Record],
        barred: Callable[[Iterable[str]], tuple[tuple[str, str], ...]],
        turn: Turn,
    ) -> None:
        """`barred`: those of some digests that must not run here any more, each with its code."""
        self._slots, self._workers, self._record, self._barred, self._turn = slots, workers, record, barred, turn

    async def index(self) -> Sequence[Mapping[str, Any]]:
        loaded = self._workers.loaded()
        return [
            {"name": manifest.name, "version": str(manifest.number), "state": state, "reason": reason}
            for digest, manifest in await self._manifests()
            for state, reason in [("READY", "") if digest in loaded else ("UNAVAILABLE", "not loaded")]
        ]

    async def load(self, name: str, version: str) -> None:
        """Twice is once. Raises RejectedError OIP_NOT_ADMITTED, TransientError OIP_BUSY, LocalFaultError WORKER_MEMORY, what bars it, and
        what loading raises.
        """
        digest, manifest = max(await self._meant(name, version), key=lambda one: one[1].number)
        if digest not in self._workers.loaded():
            await self._turn.by_hand(lambda: self._bring(digest, manifest), gives_way=True)

    async def unload(self, name: str, version: str) -> None:
        """All loaded versions of the name, or one. Raises RejectedError OIP_NOT_ADMITTED, OIP_IN_USE, TransientError OIP_BUSY."""
        meant = [digest for digest, _ in await self._meant(name, version) if digest in self._workers.loaded()]
        ours = [digest for digest in meant if digest not in self._held()]
        if meant and not ours:
            raise error("OIP_IN_USE", name)
        if ours:
            await self._turn.by_hand(lambda: self._end(ours), gives_way=False)

    # -- inside

    async def _bring(self, digest: str, manifest: Manifest) -> None:
        self._check_unheld(digest)
        await asyncio.to_thread(self._check, digest)
        self._workers.check_room(digest, manifest)
        try:
            await self._workers.load(digest, self._slots.path(digest), manifest)
        except asyncio.CancelledError:
            await self._workers.unload(digest)
            raise

    async def _end(self, digests: Iterable[str]) -> None:
        for digest in digests:
            if digest not in self._held():
                await self._workers.unload(digest)

    async def _manifests(self) -> list[tuple[str, Manifest]]:
        return await asyncio.to_thread(lambda: [(digest, self._slots.manifest(digest)) for digest in sorted(self._slots.digests())])

    async def _meant(self, name: str, version: str) -> list[tuple[str, Manifest]]:
        found = [
            (digest, manifest)
            for digest, manifest in await self._manifests()
            if manifest.name == name and version in ("", str(manifest.number))
        ]
        if not found:
            raise error("OIP_NOT_ADMITTED", f"{name}/{version}" if version else name)
        return found

    def _held(self) -> frozenset[str]:
        record = self._record()
        return frozenset({record.live, *(() if record.terminal else (record.target, record.previous))})

    def _check_unheld(self, digest: str) -> None:
        if digest in self._held():
            raise error("OIP_IN_USE", digest, "the agent loads it when it needs it")

    def _check(self, digest: str) -> None:
        """Blocks. Raises what bars it: a digest that failed here, its epoch, a member that was altered."""
        if self._record().bad_fence(digest) is not None:
            raise error("BUNDLE_BAD_DIGEST", digest)
        for _, code in self._barred([digest]):
            raise error(code, digest)
        self._slots.verify(digest)
