"""A seat that a client has, and which model it means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from contracts.errors import error


@dataclass(frozen=True)
class Lease:
    """A seat of a worker, until `end`. `revoked` is set when the worker takes no more requests."""

    route: dict[str, Any]
    descriptors: tuple[int, ...]
    revoked: asyncio.Event
    end: Callable[[], None]


def which(names: Mapping[str, str], model: str, live: str) -> str:
    """The digest that `model` means among the loaded ones, digest -> name: itself, the live one of this name, or the only one of it.

    Raises RejectedError ARENA_MODEL.
    """
    digest = model or live
    if digest in names:
        return digest
    if model and names.get(live) == model:
        return live
    found = [digest for digest, name in names.items() if name == model]
    if len(found) != 1:
        raise error("ARENA_MODEL", model, "several versions, none of them live: name a digest" if found else "")
    return found[0]
