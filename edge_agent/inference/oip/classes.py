"""The classification extension: the largest elements of an output as texts `value:index`. Pure."""

from __future__ import annotations

import numpy as np

from edge_agent.inference.oip.datatypes import Array


def largest(output: Array, count: int) -> Array:
    """The `count` largest elements of the whole output, the largest first, ties by index; fewer when there are fewer."""
    flat = output.ravel()
    order = np.argsort(-flat.astype(np.float64), kind="stable")[:count]
    texts = np.empty(len(order), dtype=object)
    texts[:] = [f"{flat[index]:f}:{index}".encode() for index in order]
    return texts
