"""A bare ONNX Runtime loop over a slot's model, with the worker's own settings: what everything else is measured against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from contracts.manifest import Manifest
from edge_agent.inference.worker.backends import onnxruntime_cpu
from edge_agent.inference.worker.slot import Tensor


def bare(slot: Path, manifest: Manifest) -> Callable[[], object]:
    """Runs the model once on the first golden input, bound in place."""
    input_ = Tensor(manifest.input.name, "<f4", manifest.input.shape)
    output = Tensor(manifest.output.name, "<f4", manifest.output.shape)
    values = np.ascontiguousarray(np.load(slot / "golden_input.npy")[:1])
    session = onnxruntime_cpu.load(str(slot / "model.onnx"), input_, output)
    return session.bind(values, np.zeros(output.shape, np.float32))
