"""What the control plane needs of a model registry. MLflow: adapters/mlflow_registry.py; simulator: tests/simulators/registry.py.

Rules of every implementation (tests/contract/registry_suite.py): versions of a name are dense from 1; registering the same
content again gives the same version; an alias names one version and moves; what was registered never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from contracts.release import ModelRegistration, ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"


@dataclass(frozen=True)
class Run:
    """A training run as its own store tells it. `data` is the id of the data set that went in."""

    id: str  # run:<id>
    data: str
    params: dict[str, str]
    metrics: dict[str, float]


class ModelRegistry(Protocol):
    """Calls block (a database or an HTTP server): never from the event loop.

    Raises API_NOT_FOUND for what does not exist, API_INVALID for what the registry refuses, API_REGISTRY_UNREACHABLE
    when a server does not answer.
    """

    def register(self, name: str, registration: ModelRegistration) -> ModelVersion: ...

    def names(self) -> list[str]: ...

    def version(self, name: str, version: int) -> ModelVersion: ...

    def versions(self, name: str) -> list[ModelVersion]:
        """Oldest first; [] for an unknown name."""

    def aliases(self, name: str) -> dict[str, int]:
        """alias -> version; {} for an unknown name."""

    def set_alias(self, name: str, alias: str, version: int) -> None: ...

    def run(self, run: str) -> Run:
        """`run` is `run:<id>`."""

    def close(self) -> None: ...
