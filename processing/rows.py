"""An answer as a row of the feature schema. Pure, no numpy.

A row is a list of values in schema order. The first three columns are the frame's (frame_no, event_utc, mono_us); each further column takes
the value of its name from the post-processed answer.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from processing.spec import SpecError


class Key(NamedTuple):
    """What an answer holds under a name: int, float, text or list; `nullable`: it can be None."""

    kind: str
    nullable: bool = False


def _text(value: Any) -> str:
    """A list as compact JSON: one column holds all boxes of a frame, and a query takes them apart."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


_MAKE: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "i16": int,
    "i32": int,
    "i64": int,
    "f32": float,
    "f64": float,
    "utf8": _text,
    "binary": bytes,
    "utc_us": int,
}
_WHOLE = ("i16", "i32", "i64")
_FITS = {"int": (*_WHOLE, "f32", "f64", "utf8"), "float": ("f32", "f64"), "text": ("utf8",), "list": ("utf8",)}
_FRAME = ("frame_no", "event_utc", "mono_us")


def unmade(columns: Sequence[Mapping[str, Any]], keys: Mapping[str, Key]) -> list[str]:
    """The columns that no answer has a value for.

    A nullable one may be such: a family's table has exactly the columns of its schema, and not every model of the family makes all of them.
    """
    return [str(column["name"]) for column in columns if column["name"] not in keys and column["name"] not in _FRAME]


class RowMaker:
    """Raises SpecError when a column cannot be made of what answers hold: nothing has its name, its type is another, it may not be null."""

    def __init__(self, columns: Sequence[Mapping[str, Any]], keys: Mapping[str, Key]) -> None:
        """`columns`: [{name, type, nullable}, ...] as in the manifest's feature_schema; `keys`: Processing.keys."""
        missing = sorted(set(unmade(columns, keys)) - {column["name"] for column in columns if column.get("nullable")})
        if missing:
            raise SpecError("nothing makes the columns {}".format(", ".join(missing)))
        for column in columns:
            if column["name"] in keys:
                _check(column, keys[column["name"]])
        self._columns = [(str(column["name"]), _MAKE[column["type"]]) for column in columns]

    def __call__(self, frame_no: int, event_utc_us: int, mono_us: int, answer: Mapping[str, Any]) -> list[Any]:
        values = {**answer, "frame_no": frame_no, "event_utc": event_utc_us, "mono_us": mono_us}
        return [make(values[name]) if values.get(name) is not None else None for name, make in self._columns]


def _check(column: Mapping[str, Any], key: Key) -> None:
    if column["type"] not in _FITS[key.kind]:
        raise SpecError("column {} is {}, the answer holds {}".format(column["name"], column["type"], key.kind))
    if key.nullable and not column.get("nullable"):
        raise SpecError("column {} must be nullable: an answer can be without it".format(column["name"]))
