"""An answer as a row of the feature schema. Pure, no numpy.

A row is a list of values in schema order. The first three columns are the frame's (frame_no, event_utc, mono_us); each further column takes
the value of its name from the post-processed answer.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

_MAKE: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "i16": int,
    "i32": int,
    "i64": int,
    "f32": float,
    "f64": float,
    "utf8": str,
    "binary": bytes,
    "utc_us": int,
}


class RowMaker:
    """Raises ValueError when a column that may not be null has no source in `answer_keys`."""

    def __init__(self, columns: Sequence[Mapping[str, Any]], answer_keys: Sequence[str]) -> None:
        """`columns`: [{name, type, nullable}, ...] as in the manifest's feature_schema."""
        known = {"frame_no", "event_utc", "mono_us", *answer_keys}
        missing = [column["name"] for column in columns if column["name"] not in known and not column.get("nullable")]
        if missing:
            raise ValueError("nothing makes the columns {}".format(", ".join(missing)))
        self._columns = [(str(column["name"]), _MAKE[column["type"]]) for column in columns]

    def __call__(self, frame_no: int, event_utc_us: int, mono_us: int, answer: Mapping[str, Any]) -> list[Any]:
        values = {**answer, "frame_no": frame_no, "event_utc": event_utc_us, "mono_us": mono_us}
        return [make(values[name]) if name in values else None for name, make in self._columns]
