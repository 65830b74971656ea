"""What a training hands over, and the files that registration.py sends: model, sets, specifications, metrics, signature."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.features import FeatureSchema
from program.files import write_durably


@dataclass(frozen=True)
class Trained:
    """Sets are pre-processed: float32 (n, *the model's input)."""

    model: bytes
    calibration: NDArray[np.float32]
    held_out: NDArray[np.float32]
    held_out_labels: NDArray[Any]  # int64 (n,), or of a detector float32 (n, most, 5)
    data_digest: str
    params: dict[str, str]
    metrics: dict[str, float]
    processing: dict[str, Any]
    feature_schema: FeatureSchema


def write(trained: Trained, out: Path, signature: bytes) -> None:
    """The files of one version; `run.json` holds what is not a file of its own."""
    files = {
        "model.onnx": trained.model,
        "model.sig": signature,
        "calibration.npz": _npz(x=trained.calibration),
        "held_out.npz": _npz(x=trained.held_out, y=trained.held_out_labels),
        "processing.json": _json(trained.processing),
        "feature_schema.json": _json(trained.feature_schema.model_dump(mode="json")),
        "run.json": _json({"params": trained.params, "metrics": trained.metrics, "data_digest": trained.data_digest}),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_durably(out / name, content)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def _npz(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub takes **kwds for allow_pickle
    return buffer.getvalue()
