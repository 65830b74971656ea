"""Slots in memory. They outlive a simulated power cut, as a disk does; and they can be told to misbehave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from contracts.errors import SkerryError, error
from contracts.manifest import Manifest
from edge_agent.core.admission import AdmittedBundle


class SimSlots:
    def __init__(self) -> None:
        self.staged: dict[str, Manifest] = {}
        self.sealed: dict[str, Manifest] = {}
        self.damaged: set[str] = set()
        self.faults: dict[str, list[SkerryError]] = {}  # method -> errors to raise, one per call
        self.activations: list[str] = []
        self._current = ""

    def _fault(self, method: str) -> None:
        if self.faults.get(method):
            raise self.faults[method].pop(0)

    def check_space(self, admitted: AdmittedBundle) -> None:
        self._fault("check_space")

    def stage(self, admitted: AdmittedBundle, stopped: Callable[[], bool]) -> None:
        self._fault("stage")
        self.staged[admitted.digest] = admitted.manifest

    def seal(self, digest: str) -> None:
        self._fault("seal")
        if digest not in self.sealed:
            self.sealed[digest] = self.staged.pop(digest)

    def digests(self) -> frozenset[str]:
        return frozenset(self.sealed)

    def manifest(self, digest: str) -> Manifest:
        if digest in self.damaged or digest not in self.sealed:
            raise error("BUNDLE_MEMBER_DIGEST", digest)
        return self.sealed[digest]

    def verify(self, digest: str) -> Manifest:
        return self.manifest(digest)

    def path(self, digest: str) -> Path:
        return Path("/slots") / digest

    def activate(self, digest: str) -> None:
        self._fault("activate")
        if digest != self._current:
            self.activations.append(digest)
        self._current = digest

    def current(self) -> str:
        return self._current

    def keep_only(self, digests: frozenset[str]) -> None:
        keep = digests | {self._current}
        self.sealed = {digest: manifest for digest, manifest in self.sealed.items() if digest in keep}
        self.staged = {digest: manifest for digest, manifest in self.staged.items() if digest in keep}
