"""What the worker reads of its slot: members by name, and `manifest.json`, the signed bytes that the agent verified."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.inference.worker.start_error import StartError

DTYPES = {"f32": "<f4", "f16": "<f2", "i8": "i1", "u8": "u1", "i32": "<i4", "i64": "<i8"}


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str  # numpy's, little-endian
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Slot:
    folder: Path
    input: Tensor
    output: Tensor
    backend: str
    member: Path
    tolerance: dict[str, Any]  # of this backend and precision
    manifest: dict[str, Any]


def open_slot(folder: Path, variant: int) -> Slot:
    """Raises StartError BUNDLE_SELF_TEST when the manifest cannot be read."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        chosen = manifest["variants"][variant]
        tolerance = chosen.get("tolerance") or manifest["tolerance"]
        tensors = _tensor(manifest["input"]), _tensor(manifest["output"])
        return Slot(folder, *tensors, chosen["backend"], folder / chosen["member"], tolerance, manifest)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as broken:
        raise StartError("BUNDLE_SELF_TEST", f"the slot's manifest cannot be read: {broken!r}") from broken


def golden(slot: Slot) -> tuple[Any, Any]:
    """(inputs, outputs) of the golden vectors, first axis = vector. Raises StartError BUNDLE_GOLDEN when they do not fit the manifest."""
    inputs = _load(slot.folder / "golden_input.npy", slot.input)
    outputs = _load(slot.folder / "golden_output.npy", slot.output)
    if len(inputs) == 0 or len(inputs) != len(outputs):
        raise StartError("BUNDLE_GOLDEN", f"{len(inputs)} inputs and {len(outputs)} outputs")
    return inputs, outputs


def _tensor(spec: dict[str, Any]) -> Tensor:
    return Tensor(spec["name"], DTYPES[spec["dtype"]], tuple(int(size) for size in spec["shape"]))


def _load(path: Path, spec: Tensor) -> Any:
    try:
        values = np.load(str(path), allow_pickle=False)
    except (OSError, ValueError) as broken:
        raise StartError("BUNDLE_GOLDEN", f"{path.name} cannot be read: {broken}") from broken
    if values.shape[1:] != spec.shape[1:] or values.dtype != np.dtype(spec.dtype):
        raise StartError("BUNDLE_GOLDEN", f"{path.name} is {values.dtype} {values.shape}, not {spec.dtype} (n, {spec.shape[1:]})")
    return values
