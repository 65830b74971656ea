"""One suite for every model registry: the simulator and MLflow, embedded. An MLflow server has not been run here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import SkerryError
from contracts.release import ModelRegistration
from control_plane.adapters.mlflow_registry import MlflowRegistry
from control_plane.services.models_later import OpenedLater
from control_plane.services.models_port import ModelRegistry
from tests.simulators.registry import SimulatedRegistry

_names = (f"model-{number}" for number in itertools.count(1))
DATA = "dataset:sha256:" + "d" * 64


def registration(seed: str = "0", **changed: object) -> ModelRegistration:
    files = {name: seed * 64 for name in ("model", "calibration", "held_out", "signature", "processing", "feature_schema")}
    values: dict[str, object] = {
        **files, "data_digest": DATA, "params": {"renderings": "6"}, "metrics": {"accuracy": 0.97, "samples": 1080.0}, **changed,
    }  # fmt: skip
    return ModelRegistration.model_validate(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


def opened(folder: Path) -> MlflowRegistry:
    """In a folder where somebody was killed while he made the file."""
    (folder / "registry.db.new").write_bytes(b"half a database")
    (folder / "registry.db.new-journal").write_bytes(b"and what belongs to it")
    return MlflowRegistry.embedded(folder / "registry.db", folder / "artifacts")


@pytest.fixture(scope="module")
def mlflow(folder: Path) -> Iterator[MlflowRegistry]:
    registry = opened(folder)
    yield registry
    registry.close()


@pytest.fixture(params=["simulated", "opened later", "mlflow"])
def registry(request: pytest.FixtureRequest) -> ModelRegistry:
    if request.param == "mlflow":
        found: ModelRegistry = request.getfixturevalue("mlflow")
        return found
    return SimulatedRegistry() if request.param == "simulated" else OpenedLater(SimulatedRegistry)


@pytest.fixture
def name() -> str:
    """A name of its own for each test: one MLflow file serves them all, since opening one takes seconds."""
    return next(_names)


def refusal(call: object) -> str:
    assert callable(call)
    with pytest.raises(SkerryError) as refused:
        call()
    return refused.value.code


def test_versions_are_dense_from_one_and_keep_what_was_registered(registry: ModelRegistry, name: str) -> None:
    first, second = registry.register(name, registration("1")), registry.register(name, registration("2"))
    assert (first.version, second.version) == (1, 2)
    assert first.run != second.run
    assert registry.version(name, 1) == first
    assert [found.registration for found in registry.versions(name)] == [registration("1"), registration("2")]
    assert name in registry.names()


def test_the_same_content_again_is_the_same_version(registry: ModelRegistry, name: str) -> None:
    first = registry.register(name, registration())
    assert registry.register(name, registration()) == first
    assert len(registry.versions(name)) == 1
    assert registry.register(name, registration(params={"renderings": "7"})).version == 2


def test_an_alias_moves_and_shows_on_its_version_alone(registry: ModelRegistry, name: str) -> None:
    for seed in "12":
        registry.register(name, registration(seed))
    registry.set_alias(name, "candidate", 1)
    registry.set_alias(name, "candidate", 2)
    registry.set_alias(name, "candidate", 2)
    assert registry.aliases(name) == {"candidate": 2}
    assert [found.aliases for found in registry.versions(name)] == [(), ("candidate",)]
    assert registry.version(name, 2).aliases == ("candidate",)


def test_a_run_tells_the_whole_data_id(registry: ModelRegistry, name: str) -> None:
    run = registry.run(registry.register(name, registration()).run)
    assert run.data == DATA
    assert run.params == {"renderings": "6"}
    assert run.metrics == {"accuracy": 0.97, "samples": 1080.0}


def test_a_delta_table_is_a_data_id_too(registry: ModelRegistry, name: str) -> None:
    found = registry.register(name, registration(data_digest="delta:silver_digits_line@17"))
    assert registry.run(found.run).data == "delta:silver_digits_line@17"


def test_what_does_not_exist_is_said_to_be_absent(registry: ModelRegistry, name: str) -> None:
    assert registry.versions(name) == []
    assert registry.aliases(name) == {}
    registry.register(name, registration())
    assert refusal(lambda: registry.version(name, 2)) == "API_NOT_FOUND"
    assert refusal(lambda: registry.version("nobody", 1)) == "API_NOT_FOUND"
    assert refusal(lambda: registry.set_alias(name, "candidate", 2)) == "API_NOT_FOUND"
    assert refusal(lambda: registry.run("run:none")) == "API_NOT_FOUND"


def test_mlflow_refuses_a_name_it_cannot_store(mlflow: MlflowRegistry, name: str) -> None:
    assert refusal(lambda: mlflow.register(name, registration(params={"what?": "1"}))) == "API_INVALID"


def test_opening_the_file_again_finds_everything(mlflow: MlflowRegistry, folder: Path, name: str) -> None:
    first = mlflow.register(name, registration())
    mlflow.set_alias(name, "champion", 1)
    again = opened(folder)
    assert again.version(name, 1) == first.model_copy(update={"aliases": ("champion",)})
    assert again.register(name, registration()).version == 1
    again.close()


def test_nothing_is_pickled_and_no_model_bytes_enter(mlflow: MlflowRegistry, folder: Path, name: str) -> None:
    mlflow.register(name, registration())
    assert {path.name for path in (folder / "artifacts").rglob("*") if path.is_file()} == {"registration.json"}


def test_what_is_opened_later_is_opened_once_and_closed_only_if_opened() -> None:
    made: list[SimulatedRegistry] = []

    def make() -> SimulatedRegistry:
        made.append(SimulatedRegistry())
        return made[-1]

    never = OpenedLater(make)
    never.close()
    assert made == []
    later = OpenedLater(make)
    later.names()
    later.names()
    later.close()
    assert [registry.log for registry in made] == [["names", "names", "close"]]
