"""MLflow as the model registry: embedded (its own SQLite file, this process alone) or an MLflow server by its URL.

What lies where: files of a model are blobs by sha256 and never enter MLflow; MLflow holds the run (params, metrics, data set),
the registered model, its versions and aliases, and as artifact `registration.json`, which names the blobs. Nothing is pickled.
A version's tags name the same blobs, because tags come with the version and an artifact would be a second request.

Traps met: a data set's digest is cut at 36 characters, so the whole id stands in its source; `search_model_versions` leaves
aliases empty, so they are read from the registered model; SQLite gives a version as int, a server as text; opening an
embedded store migrates its file, so that file must never be the control plane's own database; a migration that was killed
half-way can never be finished.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.canonical import canonical_json, sha256_hex
from contracts.errors import error
from contracts.release import ModelRegistration, ModelVersion
from control_plane.services.models_port import Run
from program.files import move_durably

# MLflow reads these when it is imported: no telemetry, and the log stays ours.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_CONFIGURE_LOGGING="false")

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.entities import Run as MlflowRun
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException

ARTIFACT = "registration.json"
_FILES_TAG = "skerry.files"  # JSON {model, calibration, ...: sha256}
_CONTENT_TAG = "skerry.registration_sha256"
_FILES = ("model", "calibration", "held_out", "signature", "processing", "feature_schema")
_DIGEST_CHARACTERS = 36
_RUN_PREFIX = "run:"
_NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
_EXISTS = "RESOURCE_ALREADY_EXISTS"
_INVALID = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class MlflowRegistry:
    """Implements services.models_port.ModelRegistry."""

    def __init__(self, client: MlflowClient, artifacts: str | None) -> None:
        self._client, self._artifacts = client, artifacts
        self._writing = threading.Lock()

    @classmethod
    def embedded(cls, database: Path, artifacts: Path) -> MlflowRegistry:
        """Opens or creates (3 s) the registry in `database`; artifacts lie under the folder `artifacts`."""
        artifacts.mkdir(parents=True, exist_ok=True)
        if not database.exists():
            cls._create(database)
        return cls(_client(f"sqlite:///{database}"), artifacts.as_uri())

    @classmethod
    def _create(cls, database: Path) -> None:
        """Make the file aside and move it in whole: MLflow's schema takes many transactions, and it never gets over half of them."""
        aside = database.with_name(f"{database.name}.new")
        for left in database.parent.glob(f"{aside.name}*"):  # by somebody who was killed at it
            left.unlink()
        cls(_client(f"sqlite:///{aside}"), None).close()
        move_durably(aside, database)

    @classmethod
    def server(cls, url: str) -> MlflowRegistry:
        """A server decides itself where its artifacts lie."""
        return cls(_client(url), None)

    def close(self) -> None:
        """Dispose the engines of an embedded store; a server's client holds nothing."""
        registry = self._client._get_registry_client()  # type: ignore[no-untyped-call]
        for part in (self._client._tracking_client.store, registry.store):
            dispose = getattr(part, "_dispose_engine", None) or getattr(getattr(part, "engine", None), "dispose", None)
            if dispose:
                dispose()

    # -- writing

    def register(self, name: str, registration: ModelRegistration) -> ModelVersion:
        content = sha256_hex(canonical_json(registration.model_dump(mode="json")))
        with self._writing, _translated(name):
            known = self._find(name, content)
            return known or self._register(name, registration, content)

    def _find(self, name: str, content: str) -> ModelVersion | None:
        same = [found for found in self._search(name) if found.tags.get(_CONTENT_TAG) == content]
        return self._version(same[0], self.aliases(name)) if same else None

    def _register(self, name: str, registration: ModelRegistration, content: str) -> ModelVersion:
        run = self._record_run(name, registration)
        self._ensure_model(name)
        files = {field: getattr(registration, field) for field in _FILES}
        tags = {_CONTENT_TAG: content, _FILES_TAG: json.dumps(files, sort_keys=True)}
        created = self._client.create_model_version(name, source=f"{run.info.artifact_uri}/{ARTIFACT}", run_id=run.info.run_id, tags=tags)
        return ModelVersion(name=name, version=int(created.version), run=_RUN_PREFIX + run.info.run_id, registration=registration)

    def _record_run(self, name: str, registration: ModelRegistration) -> MlflowRun:
        run = self._client.create_run(self._experiment(name))
        run_id, started = run.info.run_id, run.info.start_time
        metrics = [Metric(key, value, started, 0) for key, value in registration.metrics.items()]
        self._client.log_batch(run_id, metrics=metrics, params=[Param(key, value) for key, value in registration.params.items()])
        data = registration.data_digest
        digest = data.rpartition(":")[2][:_DIGEST_CHARACTERS]
        dataset = Dataset(name=name, digest=digest, source_type="skerry", source=json.dumps({"data": data}))
        self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        self._client.log_dict(run_id, registration.model_dump(mode="json"), ARTIFACT)
        self._client.set_terminated(run_id)
        return run

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        location = f"{self._artifacts}/{name}" if self._artifacts else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _ensure_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as refused:
            if refused.error_code != _EXISTS:
                raise

    def set_alias(self, name: str, alias: str, version: int) -> None:
        with self._writing, _translated(f"{name}/{version}"):
            self._client.set_registered_model_alias(name, alias, str(version))

    # -- reading

    def names(self) -> list[str]:
        with _translated("models"):
            names: list[str] = []
            page = self._client.search_registered_models()
            while True:
                names += [found.name for found in page]
                if not page.token:
                    return sorted(names)
                page = self._client.search_registered_models(page_token=page.token)

    def version(self, name: str, version: int) -> ModelVersion:
        with _translated(f"model:{name}/{version}"):
            return self._version(self._client.get_model_version(name, str(version)), self.aliases(name))

    def versions(self, name: str) -> list[ModelVersion]:
        with _translated(name):
            aliases = self.aliases(name)
            return sorted((self._version(found, aliases) for found in self._search(name)), key=lambda known: known.version)

    def aliases(self, name: str) -> dict[str, int]:
        with _translated(name):
            try:
                found = self._client.get_registered_model(name).aliases
            except MlflowException as refused:
                if refused.error_code != _NOT_FOUND:
                    raise
                return {}
            return {alias: int(version) for alias, version in found.items()}

    def run(self, run: str) -> Run:
        with _translated(run):
            found = self._client.get_run(run.removeprefix(_RUN_PREFIX))
            return Run(_RUN_PREFIX + found.info.run_id, _data_of(found), dict(found.data.params), dict(found.data.metrics))

    def _search(self, name: str) -> list[MlflowVersion]:
        found: list[MlflowVersion] = []
        page = self._client.search_model_versions(f"name='{name}'")
        while True:
            found += [version for version in page if _FILES_TAG in version.tags]  # others were not registered through us
            if not page.token:
                return found
            page = self._client.search_model_versions(f"name='{name}'", page_token=page.token)

    def _version(self, found: MlflowVersion, aliases: dict[str, int]) -> ModelVersion:
        if _FILES_TAG not in found.tags:
            raise error("API_NOT_FOUND", f"model:{found.name}/{found.version}", "this version was not registered through Skerry")
        run = self.run(_RUN_PREFIX + (found.run_id or ""))
        files = json.loads(found.tags[_FILES_TAG])
        registration = ModelRegistration(**files, data_digest=run.data, params=run.params, metrics=run.metrics)
        number = int(found.version)
        own = tuple(sorted(alias for alias, version in aliases.items() if version == number))
        return ModelVersion(name=found.name, version=number, run=run.id, registration=registration, aliases=own)


def _client(uri: str) -> MlflowClient:
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own models use what SQLAlchemy 2.1 calls deprecated; nothing we could mend
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _data_of(found: MlflowRun) -> str:
    """The whole data id of the run's training set; "" when it has none."""
    inputs = found.inputs.dataset_inputs if found.inputs else []
    return str(json.loads(inputs[0].dataset.source)["data"]) if inputs else ""


@contextmanager
def _translated(thing: str) -> Iterator[None]:
    """MLflow's exceptions as ours; what is neither absence nor refusal of a value is the server's or the disk's."""
    try:
        yield
    except MlflowException as failed:
        if failed.error_code == _NOT_FOUND:
            raise error("API_NOT_FOUND", thing, failed.message) from failed
        if failed.error_code in _INVALID:
            raise error("API_INVALID", thing, failed.message) from failed
        raise error("API_REGISTRY_UNREACHABLE", thing, failed.message) from failed
