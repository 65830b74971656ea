"""The detector as an ONNX graph: three convolutions with fixed random filters, and a head that is learnt.

    x (n, 1, 64, 96) -> [Conv 3x3, ReLU, MaxPool] x 3: 16, 48, 96 channels -> features (n, 96, 8, 12)
                     -> Conv 3x3 96->8 -> grid (n, 8, 8, 12)

One cell of the grid for 8 x 8 pixels. Its eight values are what `grid_boxes` of processing.json reads: logits of nothing and of three
classes, then where the part's middle lies and how large it is, in cells. There are no anchors: a cell speaks for the part whose
middle is near its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from examples.graph import Array, Graph, he

OUTPUT, FEATURES = "grid", "features"
HEIGHT, WIDTH = 64, 96
ROWS, COLUMNS = 8, 12
CHANNELS = (16, 48, 96)
KERNEL = 3  # of the head
VALUES = 8  # of a cell
_FILTER_SEED = 7


@dataclass(frozen=True)
class Head:
    weights: Array  # (8, 96, 3, 3)
    bias: Array  # (8,)


def features() -> onnx.ModelProto:
    """The graph up to its features (n, 96, 8, 12): what the head is trained on."""
    return _trunk().model("belt_parts", (1, HEIGHT, WIDTH), (CHANNELS[-1], ROWS, COLUMNS))


def detector(head: Head) -> onnx.ModelProto:
    """The whole graph: grid (n, 8, 8, 12)."""
    graph = _trunk()
    graph.add("Conv", head.weights, head.bias, kernel_shape=[KERNEL, KERNEL], pads=[1, 1, 1, 1])
    graph.name_last(OUTPUT)
    return graph.model("belt_parts", (1, HEIGHT, WIDTH), (VALUES, ROWS, COLUMNS))


def _trunk() -> Graph:
    random = np.random.default_rng(_FILTER_SEED)
    graph = Graph()
    for out, into in zip(CHANNELS, (1, *CHANNELS), strict=False):
        graph.convolve(he(random, out, into))
        graph.pool()
    graph.name_last(FEATURES)
    return graph
