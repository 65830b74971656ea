"""Runs a model over samples in the device's own worker, as a process: what is measured is what devices run.

Only a folder, two .npy files and one JSON line pass the border; nothing of the device is imported here.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import error
from contracts.manifest import TensorSpec
from control_plane.build.source import F32

_PACKAGES = Path(__file__).parents[2]  # the folder that holds our packages, for the worker's interpreter


@dataclass(frozen=True)
class Run:
    """Outputs (n, *output shape without the batch) and what it took: memory of the whole worker, CPU time per inference."""

    outputs: F32
    rss_bytes: int
    cpu_p95_us: float
    backend_version: str


@dataclass(frozen=True)
class Evaluator:
    """`python -m edge_agent.inference.worker --slot DIR --evaluate IN.npy OUT.npy`, by `python`, at most `timeout_s`."""

    python: Path
    timeout_s: float

    def run(self, model: bytes, input_spec: TensorSpec, output_spec: TensorSpec, samples: F32) -> Run:
        """RejectedError BUILD_SOURCE when the worker cannot run the model; its own code is in the detail."""
        with tempfile.TemporaryDirectory(prefix="skerry-evaluate-") as folder:
            slot, given, answered = Path(folder), Path(folder) / "in.npy", Path(folder) / "out.npy"
            (slot / "model.onnx").write_bytes(model)
            (slot / "manifest.json").write_text(json.dumps(_slot_manifest(input_spec, output_spec)))
            np.save(given, samples, allow_pickle=False)
            figures = self._ask(slot, given, answered)
            outputs = np.load(answered, allow_pickle=False)
        if outputs.shape != (len(samples), *output_spec.shape[1:]) or not np.isfinite(outputs).all():
            raise error("BUILD_SOURCE", "model", f"the worker answers with shape {outputs.shape}, or not finite")
        return Run(outputs.astype(np.float32), int(figures["rss_bytes"]), float(figures["cpu_p95_us"]), str(figures["backend_version"]))

    def _ask(self, slot: Path, given: Path, answered: Path) -> dict[str, Any]:
        command = [str(self.python), "-m", "edge_agent.inference.worker", "--slot", str(slot), "--evaluate", str(given), str(answered)]
        environment = {**os.environ, "PYTHONPATH": str(_PACKAGES)}
        try:
            ended = subprocess.run(command, capture_output=True, timeout=self.timeout_s, env=environment, cwd=slot, check=False)
        except subprocess.TimeoutExpired as slow:
            raise error("BUILD_SOURCE", "model", f"not evaluated within {self.timeout_s} s") from slow
        told = _last_json(ended.stdout)
        if ended.returncode != 0 or told.get("event") != "evaluated":
            seen = told or ended.stderr.decode(errors="replace")[-500:]
            raise error("BUILD_SOURCE", "model", f"the worker ended with {ended.returncode}: {seen}")
        figures: dict[str, Any] = told["figures"]
        return figures


def _slot_manifest(input_spec: TensorSpec, output_spec: TensorSpec) -> dict[str, Any]:
    """The part of a manifest that the worker reads. Here each graph runs on ONNX Runtime, the TensorRT form too (no GPU needed)."""
    variant = {"member": "model.onnx", "backend": "onnxruntime", "precision": "fp32", "runtime_min": "1.0", "runtime_max": "99.0"}
    tensors = {"input": input_spec.model_dump(mode="json"), "output": output_spec.model_dump(mode="json")}
    return {**tensors, "variants": [variant], "tolerance": {}}  # there are no golden vectors to compare with yet


def _last_json(out: bytes) -> dict[str, Any]:
    lines = [line for line in out.splitlines() if line.startswith(b"{")]
    try:
        value = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
