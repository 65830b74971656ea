"""From options and a TOML file to a CampaignRequest. A mistake is met here, with the field's name, before anything is sent."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contracts.errors import error
from contracts.operator import CampaignRequest


def build(file: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The request's JSON: the file's fields, and over them each option that was given (not None, not empty).

    Raises CONFIG_MISSING, CAMPAIGN_INVALID, CAMPAIGN_WAVE_EMPTY.
    """
    fields = {**(_read(file) if file else {}), **{key: value for key, value in options.items() if value not in (None, [], {})}}
    unknown = set(fields) - set(CampaignRequest.model_fields)
    if unknown:
        raise error("CAMPAIGN_INVALID", str(file), f"no such field: {', '.join(sorted(unknown))}")
    try:
        request = CampaignRequest(**fields)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        raise error("CAMPAIGN_INVALID", ".".join(map(str, first["loc"])), first["msg"]) from invalid
    request.check_waves()
    return request.model_dump(mode="json")


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as unreadable:
        raise error("CONFIG_MISSING", str(file), str(unreadable.strerror)) from unreadable
    except tomllib.TOMLDecodeError as broken:
        raise error("CAMPAIGN_INVALID", str(file), str(broken)) from broken


def labels(given: list[str]) -> dict[str, str]:
    """["line=3"] -> {"line": "3"}."""
    pairs = [text.partition("=") for text in given]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise error("API_INVALID", "--label", "a label is key=value")
    return {key: value for key, _, value in pairs}


def waves(sizes: list[str], gates: list[str]) -> list[dict[str, Any]]:
    """["1", "2:600", "all"] -> waves of 1 device, of 2 that soak 600 s, of all that are left; each with all `gates`."""
    if gates and not sizes:
        raise error("CAMPAIGN_INVALID", "--gate", "gates belong to waves: give --wave too")
    parsed = [gate(text) for text in gates]
    return [{**_wave(text), "gates": parsed} for text in sizes]


def _wave(text: str) -> dict[str, Any]:
    size, _, soak_s = text.partition(":")
    try:
        return {"size": None if size == "all" else int(size), "soak_s": float(soak_s or 0)}
    except ValueError as broken:
        raise error("CAMPAIGN_INVALID", "--wave", f"{text!r} is not SIZE, all, or SIZE:SECONDS") from broken


def gate(text: str) -> dict[str, Any]:
    """`latency_p95_us=20000@100` -> at most 20000 us over at least 100 samples."""
    metric, _, rest = text.partition("=")
    limit, _, samples = rest.partition("@")
    try:
        return {"metric": metric, "limit": float(limit), "min_samples": int(samples or 1)}
    except ValueError as broken:
        raise error("CAMPAIGN_INVALID", "--gate", f"{text!r} is not METRIC=LIMIT or METRIC=LIMIT@SAMPLES") from broken
