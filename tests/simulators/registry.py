"""A model registry in memory: services.models_port.ModelRegistry, with its rules, and bendable by a test."""

from __future__ import annotations

import itertools

from contracts.errors import error
from contracts.release import ModelRegistration, ModelVersion
from control_plane.services.models_port import Run


class SimulatedRegistry:
    """`away` makes every call fail as an unreachable server does; `move_behind_our_back` is another client's alias move."""

    def __init__(self) -> None:
        self._versions: dict[str, list[ModelVersion]] = {}
        self._aliases: dict[str, dict[str, int]] = {}
        self._runs: dict[str, Run] = {}
        self._run_numbers = itertools.count(1)
        self.away = False
        self.log: list[str] = []

    def register(self, name: str, registration: ModelRegistration) -> ModelVersion:
        self._reached(f"register {name}")
        for known in self._versions.get(name, []):
            if known.registration == registration:
                return self._named(known)
        versions = self._versions.setdefault(name, [])
        run = Run(f"run:{next(self._run_numbers):032x}", registration.data_digest, registration.params, registration.metrics)
        self._runs[run.id] = run
        versions.append(ModelVersion(name=name, version=len(versions) + 1, run=run.id, registration=registration))
        return versions[-1]

    def names(self) -> list[str]:
        self._reached("names")
        return sorted(self._versions)

    def version(self, name: str, version: int) -> ModelVersion:
        self._reached(f"version {name}/{version}")
        versions = self._versions.get(name, [])
        if not 1 <= version <= len(versions):
            raise error("API_NOT_FOUND", f"model:{name}/{version}")
        return self._named(versions[version - 1])

    def versions(self, name: str) -> list[ModelVersion]:
        self._reached(f"versions {name}")
        return [self._named(known) for known in self._versions.get(name, [])]

    def aliases(self, name: str) -> dict[str, int]:
        self._reached(f"aliases {name}")
        return dict(self._aliases.get(name, {}))

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._reached(f"alias {name} {alias} {version}")
        self.version(name, version)
        self.move_behind_our_back(name, alias, version)

    def move_behind_our_back(self, name: str, alias: str, version: int) -> None:
        self._aliases.setdefault(name, {})[alias] = version

    def run(self, run: str) -> Run:
        self._reached(f"run {run}")
        if run not in self._runs:
            raise error("API_NOT_FOUND", run)
        return self._runs[run]

    def forge_data(self, run: str, data: str) -> None:
        """Somebody writes another data set into the run."""
        self._runs[run] = Run(run, data, self._runs[run].params, self._runs[run].metrics)

    def forge_run(self, name: str, version: int, run: str) -> None:
        """Somebody points a version at another run."""
        versions = self._versions[name]
        versions[version - 1] = versions[version - 1].model_copy(update={"run": run})

    def close(self) -> None:
        self.log.append("close")

    def _named(self, known: ModelVersion) -> ModelVersion:
        aliases = self._aliases.get(known.name, {})
        own = tuple(sorted(alias for alias, version in aliases.items() if version == known.version))
        return known.model_copy(update={"aliases": own})

    def _reached(self, call: str) -> None:
        self.log.append(call)
        if self.away:
            raise error("API_REGISTRY_UNREACHABLE", "simulated")
