"""A bundle as bytes: manifest, and members by digest. No model behind it: for whatever handles bundles without running them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from contracts.canonical import canonical_json
from contracts.features import FRAME_COLUMNS
from contracts.manifest import CHUNK_BYTES, REQUIRED_MEMBERS

PROFILE = "x86-cpu-avx2"


@dataclass(frozen=True)
class BundleBytes:
    path: str
    manifest: bytes
    members: dict[str, bytes]  # name -> content

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()

    @property
    def blobs(self) -> dict[str, bytes]:
        return {hashlib.sha256(data).hexdigest(): data for data in (self.manifest, *self.members.values())}


def member(data: bytes) -> dict[str, Any]:
    chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "length": len(data),
        "chunks": [hashlib.sha256(chunk).hexdigest() for chunk in chunks],
    }


def make_bundle(number: int = 1, model: bytes | None = None, **changes: Any) -> BundleBytes:
    """`changes` replace fields of the manifest; None takes one away."""
    files = {name: f"{name} of {number}".encode() for name in REQUIRED_MEMBERS} | {"model.onnx": model or b"model %d" % number}
    values: dict[str, Any] = {
        "version": 1, "kind": "bundle", "name": "tiny", "number": number, "profile": PROFILE, "model_version": f"model:tiny/{number}",
        "run": "run:1", "data": "dataset:sha256:00", "security_epoch": 1, "min_agent": "0.1.0",
        "input": {"name": "x", "dtype": "f32", "shape": [1, 4]}, "output": {"name": "y", "dtype": "f32", "shape": [1, 2]},
        "variants": [
            {"member": "model.onnx", "backend": "onnxruntime", "precision": "fp32", "runtime_min": "1.16", "runtime_max": "1.99"}
        ],
        "members": {name: member(data) for name, data in files.items()},
        "feature_schema": {"family": "tiny", "columns": [column.model_dump() for column in FRAME_COLUMNS]},
        "tolerance": {"max_abs": 0.1, "top1_agreement": 0.9}, "limits": {"memory_bytes": 1 << 30, "latency_p95_us": 10_000},
        "evaluation": {"accuracy": 1.0, "accuracy_fp32": 1.0, "samples": 8},
    }  # fmt: skip
    values = {name: value for name, value in (values | changes).items() if value is not None}
    path = f"bundles/{values.get('profile', PROFILE)}/{values.get('name', 'tiny')}-{values.get('number', 0)}.json"
    return BundleBytes(path, canonical_json(values), files)
