"""One TOML file and one frozen model per program; unknown keys are refused; `SKERRY_*` in the environment wins over the file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.errors import error

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "SKERRY_"


class Config(BaseModel):
    """Base of every configuration. Secrets are paths. Units stand in the names: _s, _ms, _bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state_dir: Path = Path("/var/lib/skerry")
    run_dir: Path = Path("/run/skerry")


C = TypeVar("C", bound=Config)


def load(model: type[C], path: Path, overrides: Mapping[str, Any] | None = None) -> C:
    """Read `path`, lay the environment and then `overrides` (command line, None = not given) over it.

    `SKERRY_BROKER__HOST=x` sets `host` in table `broker`; only keys of `model` are looked at.
    Raises LocalFaultError CONFIG_MISSING or CONFIG_INVALID, which name file and key.
    """
    values = _read(path)
    _lay_over(values, _from_environment(model, os.environ))
    _lay_over(values, {key: value for key, value in (overrides or {}).items() if value is not None})
    try:
        return model(**values)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        why = _no_such_key(model, first["loc"]) if first["type"] == "extra_forbidden" else first["msg"]
        raise error("CONFIG_INVALID", f"{path}: {key}", why) from invalid


def _no_such_key(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    import difflib  # noqa: PLC0415 - not in the memory of every program that has no such mistake

    *tables, key = map(str, place)
    for table in tables:
        model = _table(model, table) or model
    alike = difflib.get_close_matches(key, model.model_fields, 1)
    return f"no such key; did you mean {alike[0]}?" if alike else "no such key"


def _table(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    annotation = model.model_fields[name].annotation if name in model.model_fields else None
    candidates = (annotation, *get_args(annotation))
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as unreadable:
        raise error("CONFIG_MISSING", str(path), str(unreadable.strerror)) from unreadable
    except ValueError as broken:  # no TOML, or no text
        raise error("CONFIG_INVALID", str(path), str(broken)) from broken


def _from_environment(model: type[BaseModel], environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in environment.items():
        keys = name.removeprefix(PREFIX).lower().split("__")
        if name.startswith(PREFIX) and keys[0] in model.model_fields:
            _lay_over(values, _nested(keys, value))
    return values


def _nested(keys: list[str], value: str) -> dict[str, Any]:
    head, *rest = keys
    return {head: _nested(rest, value) if rest else value}


def _lay_over(values: dict[str, Any], upper: Mapping[str, Any]) -> None:
    for key, value in upper.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _lay_over(values[key], value)
        else:
            values[key] = value
