"""Bills of material in CycloneDX 1.6 JSON: of the model (ML-BOM, with its card) and of what runs it (SBOM). Pure."""

from __future__ import annotations

from datetime import datetime
from importlib import metadata
from typing import Any

from contracts.canonical import canonical_json
from contracts.release import ModelVersion
from control_plane.build.figures import Accuracy

_RUNTIME_PACKAGES = ("onnxruntime", "numpy")


def ml_bom(version: ModelVersion, member: str, sha256: str, measured: Accuracy, now: datetime) -> bytes:
    """What the model is, from which data, and how well it does, with the interval and every class."""
    metrics = [
        _metric("accuracy", measured.quantized, measured.low, measured.high),
        _metric("accuracy fp32", measured.fp32),
        *_boxes(measured),
        *(_metric("f1" if measured.detection else "accuracy", share, part=f"class {label}") for label, share in measured.per_class.items()),
    ]
    registered = [_metric(name, value, part="as registered") for name, value in sorted(version.registration.metrics.items())]
    card = {
        "modelParameters": {
            "task": "object-detection" if measured.detection else "classification",
            "datasets": [{"type": "dataset", "name": version.registration.data_digest, "classification": "training"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": metrics + registered},
    }
    component = {
        "type": "machine-learning-model", "bom-ref": version.id, "name": version.name, "version": str(version.version),
        "hashes": [{"alg": "SHA-256", "content": sha256}], "modelCard": card,
        "properties": [{"name": "skerry:member", "value": member}, {"name": "skerry:run", "value": version.run}],
    }  # fmt: skip
    return _document([component], now)


def _boxes(measured: Accuracy) -> list[dict[str, Any]]:
    """Of a detector: what its boxes are worth, beside the share of frames that are right as a whole."""
    found = measured.detection
    if found is None:
        return []
    return [_metric("f1", found.f1, *found.f1_interval), _metric("precision", found.precision), _metric("recall", found.recall)]


def sbom(now: datetime) -> bytes:
    """The packages that the bundle was evaluated with; a device's own runtime must lie in the manifest's range."""
    components = [
        {"type": "library", "bom-ref": f"pkg:pypi/{name}@{found}", "name": name, "version": found, "purl": f"pkg:pypi/{name}@{found}"}
        for name, found in tool_versions(_RUNTIME_PACKAGES).items()
    ]
    return _document(components, now)


def tool_versions(names: tuple[str, ...]) -> dict[str, str]:
    return {name: metadata.version(name) for name in names}


def _document(components: list[dict[str, Any]], now: datetime) -> bytes:
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
    made = {"timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "tools": {"components": [{"type": "application", "name": "skerry-build"}]}}
    return canonical_json({**head, "metadata": made, "components": components})


def _metric(name: str, value: float, low: float | None = None, high: float | None = None, part: str = "held-out set") -> dict[str, Any]:
    metric: dict[str, Any] = {"type": name, "value": f"{value:.6f}", "slice": part}
    if low is not None and high is not None:
        metric["confidenceInterval"] = {"lowerBound": f"{low:.6f}", "upperBound": f"{high:.6f}"}
    return metric
