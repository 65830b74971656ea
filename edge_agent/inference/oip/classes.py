"""The classification extension: the largest elements of an output as Triton writes them: `value:index`, or `value:index:label`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edge_agent.inference.oip.datatypes import Array


def largest(output: Array, count: int, labels: tuple[str, ...] = ()) -> Array:
    """The `count` largest elements of the whole output, the largest first, ties by index; fewer when there are fewer.

    `labels`: of the last dimension's elements; () when they have none.
    """
    flat = output.ravel()
    order = (flat.size - 1 - np.argsort(flat[::-1], kind="stable")[::-1])[:count]
    form = "f" if flat.dtype.kind == "f" else "d"
    texts = np.empty(len(order), dtype=object)
    texts[:] = [f"{flat[index]:{form}}:{index}{_label(int(index), labels)}".encode() for index in order]
    return texts


def labels_of(slot: str) -> tuple[str, ...]:
    """What the signed manifest in a slot calls the classes. Blocks. A slot that cannot be read has no labels: its worker will say more."""
    try:
        return tuple(map(str, json.loads((Path(slot) / "manifest.json").read_bytes()).get("labels", ())))
    except (OSError, ValueError, TypeError, AttributeError):
        return ()


def _label(index: int, labels: tuple[str, ...]) -> str:
    return f":{labels[index % len(labels)]}" if labels else ""
