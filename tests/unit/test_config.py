"""Configuration: one TOML file, one frozen model; the environment over the file, the command line over both; unknown keys refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.errors import LocalFaultError
from program.config import Config, load


class Broker(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    host: str = "localhost"
    port: int = 8883


class Example(Config):
    interval_s: float = 30
    broker: Broker = Broker()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """The real environment, for the time of the block."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def written(folder: Path, text: str) -> Path:
    path = folder / "example.toml"
    path.write_text(text)
    return path


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    config = load(Example, written(tmp_path, ""))
    assert (config.state_dir, config.run_dir) == (Path("/var/lib/skerry"), Path("/run/skerry"))
    assert config.interval_s == 30


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = written(tmp_path, 'interval_s = 1\nstate_dir = "/file"\nrun_dir = "/file"\n[broker]\nhost = "file"\nport = 1\n')
    with environment(SKERRY_BROKER__HOST="environment", SKERRY_STATE_DIR="/environment", SKERRY_RUN_DIR="/environment"):
        config = load(Example, path, {"run_dir": Path("/line"), "state_dir": None})
    assert config.broker == Broker(host="environment", port=1)
    assert config.state_dir == Path("/environment")
    assert config.run_dir == Path("/line")
    assert config.interval_s == 1


def test_variables_of_others_are_not_looked_at(tmp_path: Path) -> None:
    with environment(SKERRY_PYTHON_OF_SOMEBODY="x", BROKER__HOST="x"):
        assert load(Example, written(tmp_path, "")).broker.host == "localhost"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("intervall_s = 1", "intervall_s"),
        ('[broker]\nhots = "x"', "broker.hots"),
        ('interval_s = "often"', "interval_s"),
        ("[broker]\nport = 1.5", "broker.port"),
    ],
)
def test_an_unknown_key_or_a_wrong_value_is_refused_by_name(tmp_path: Path, text: str, key: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(LocalFaultError) as refused:
        load(Example, path)
    assert refused.value.code == "CONFIG_INVALID"
    assert refused.value.thing == f"{path}: {key}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("intervall_s = 1", "no such key; did you mean interval_s?"),
        ('[broker]\nhots = "x"', "no such key; did you mean host?"),
        ("colour = 1", "no such key"),
    ],
)
def test_the_key_that_was_meant_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(LocalFaultError) as refused:
        load(Example, written(tmp_path, text))
    assert refused.value.detail == said


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LocalFaultError) as refused:
        load(Example, tmp_path / "binary.toml")
    assert refused.value.code == "CONFIG_INVALID"


def test_an_unknown_key_below_a_known_table_of_the_environment_is_refused(tmp_path: Path) -> None:
    with environment(SKERRY_BROKER__HOTS="x"), pytest.raises(LocalFaultError) as refused:
        load(Example, written(tmp_path, ""))
    assert refused.value.thing.endswith("broker.hots")


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalFaultError) as refused:
        load(Example, written(tmp_path, "interval_s = = 1"))
    assert refused.value.code == "CONFIG_INVALID"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalFaultError) as refused:
        load(Example, tmp_path / "nowhere.toml")
    assert refused.value.code == "CONFIG_MISSING"
    assert refused.value.thing == str(tmp_path / "nowhere.toml")


def test_a_configuration_does_not_change_after_it_was_loaded(tmp_path: Path) -> None:
    config = load(Example, written(tmp_path, ""))
    with pytest.raises(ValidationError):
        config.interval_s = 1  # type: ignore[misc]
