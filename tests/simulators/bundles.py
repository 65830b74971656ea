"""Small bundles on disk: a slot folder with manifest, members and golden vectors.

Here for the fake backend; onnx_bundles.py has real models.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from contracts.features import FeatureSchema
from contracts.manifest import REQUIRED_MEMBERS, Manifest
from edge_agent.inference.worker.backends import fake
from processing import windows
from tests.simulators.bundle_bytes import member as member_entry

SIDE, CLASSES = 8, 4
INPUT_SHAPE, OUTPUT_SHAPE = (1, 1, SIDE, SIDE), (1, CLASSES)
PROCESSING: dict[str, Any] = {
    "pre": [{"op": "grayscale"}, {"op": "resize", "height": SIDE, "width": SIDE, "method": "box"}, {"op": "standardize"}],
    "post": [{"op": "softmax"}, {"op": "top1"}],
}
COLUMNS: list[dict[str, Any]] = [
    {"name": "frame_no", "type": "i64", "min": 0},
    {"name": "event_utc", "type": "utc_us"},
    {"name": "mono_us", "type": "i64", "min": 0},
    {"name": "label", "type": "i16", "min": 0, "max": CLASSES - 1},
    {"name": "score", "type": "f32", "min": 0, "max": 1},
]
RUNTIMES = {"onnxruntime": ("1.16", "1.99"), "fake": ("1.0", "1.99")}


def golden_inputs(count: int = 8, seed: int = 7) -> Any:
    return np.random.default_rng(seed).standard_normal((count, *INPUT_SHAPE[1:])).astype(np.float32)


def fake_slot(root: Path, *faults: dict[str, Any], **changes: Any) -> tuple[str, Path, Manifest]:
    """(digest, slot folder, manifest) of a bundle for the fake backend, with its `faults`."""
    inputs = golden_inputs()
    outputs = np.concatenate([fake.expected(one[None], OUTPUT_SHAPE) for one in inputs]).astype(np.float32)
    return write_slot(root, "fake", "model.json", json.dumps({"faults": faults}).encode(), (inputs, outputs), changes)


def write_slot(
    root: Path, backend: str, member: str, model: bytes, golden: tuple[Any, Any], changes: dict[str, Any]
) -> tuple[str, Path, Manifest]:
    """`changes`: of the manifest; `columns` of the feature schema; `processing` of processing.json, whose windows become the manifest's."""
    columns, spec = changes.pop("columns", COLUMNS), changes.pop("processing", PROCESSING)
    schema = {"family": "digits", "columns": columns}
    files = dict.fromkeys(REQUIRED_MEMBERS, b"{}")
    files[member] = model
    files |= {"golden_input.npy": npy(golden[0]), "golden_output.npy": npy(golden[1])}
    files |= {"processing.json": json.dumps(spec).encode(), "feature_schema.json": json.dumps(schema).encode()}
    low, high = RUNTIMES[backend]
    values: dict[str, Any] = {
        "name": "tiny", "number": 1, "profile": "x86-cpu-avx2", "model_version": "model:tiny/1", "run": "run:1",
        "data": "dataset:sha256:00", "security_epoch": 1, "min_agent": "0.1.0",
        "input": {"name": "x", "dtype": "f32", "shape": INPUT_SHAPE}, "output": {"name": "logits", "dtype": "f32", "shape": OUTPUT_SHAPE},
        "variants": [{"member": member, "backend": backend, "precision": "fp32", "runtime_min": low, "runtime_max": high}],
        "members": {name: member_entry(data) for name, data in files.items()},
        "feature_schema": schema,
        "window_schemas": window_schemas(spec, columns),
        "tolerance": {"max_abs": 1e-3, "top1_agreement": 1.0},
        "limits": {"memory_bytes": 1 << 30, "latency_p95_us": 100_000},
        "evaluation": {"accuracy": 1.0, "accuracy_fp32": 1.0, "samples": 8},
        **changes,
    }  # fmt: skip
    manifest = Manifest(**values)
    signed = manifest.model_dump_json().encode()
    digest = hashlib.sha256(signed).hexdigest()
    slot = root / digest
    slot.mkdir(parents=True)
    for name, data in {**files, "manifest.json": signed}.items():
        (slot / name).write_bytes(data)
    return digest, slot, manifest


def window_schemas(spec: dict[str, Any], columns: list[dict[str, Any]] = COLUMNS) -> list[FeatureSchema]:
    schema = FeatureSchema.model_validate({"family": "digits", "columns": columns})
    return [schema.of_window(each.name, each.columns) for each in windows.compile(spec, columns)]


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()
