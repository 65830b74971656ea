"""A registry that is opened by whoever first needs it, so that the control plane serves devices seconds earlier after a start."""

from __future__ import annotations

import threading
from collections.abc import Callable

from contracts.release import ModelRegistration, ModelVersion
from control_plane.services.models_port import ModelRegistry, Run


class OpenedLater:
    """Implements ModelRegistry over the one that `opener` makes; calls that come while it opens wait for it."""

    def __init__(self, opener: Callable[[], ModelRegistry]) -> None:
        self._opener, self._opening = opener, threading.Lock()
        self._registry: ModelRegistry | None = None

    def _opened(self) -> ModelRegistry:
        with self._opening:
            if self._registry is None:
                self._registry = self._opener()
            return self._registry

    def register(self, name: str, registration: ModelRegistration) -> ModelVersion:
        return self._opened().register(name, registration)

    def names(self) -> list[str]:
        return self._opened().names()

    def version(self, name: str, version: int) -> ModelVersion:
        return self._opened().version(name, version)

    def versions(self, name: str) -> list[ModelVersion]:
        return self._opened().versions(name)

    def aliases(self, name: str) -> dict[str, int]:
        return self._opened().aliases(name)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._opened().set_alias(name, alias, version)

    def run(self, run: str) -> Run:
        return self._opened().run(run)

    def close(self) -> None:
        """Waits for an opening that is under way; what was never opened stays so."""
        with self._opening:
            if self._registry is not None:
                self._registry.close()
