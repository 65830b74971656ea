"""A bundle's members and manifest for one profile, from what was built and measured. Pure but for the key that signs."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from contracts import manifest as form
from contracts.canonical import canonical_json, sha256_hex
from contracts.manifest import CHUNK_BYTES, Evaluation, Limits, Manifest, Member, Tolerance, Variant
from contracts.release import BuildJob
from control_plane.build import bom
from control_plane.build.figures import Accuracy
from control_plane.build.source import F32, Source
from signatures import provenance
from signatures.ed25519 import SigningKey
from signatures.provenance import MANIFEST_SUBJECT, Provenance, manifest_body_sha256

MIN_AGENT = "0.1.0"  # the first agent that reads this form of manifest
TOOLS = ("onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Built:
    """One quantized form of a model and all that was measured on it."""

    variant: Variant
    model: bytes
    golden_input: F32
    golden_output: F32
    tolerance: Tolerance
    limits: Limits
    accuracy: Accuracy
    settings: dict[str, Any]
    expected_agreement: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """The manifest's bytes, and every member's by its sha256."""

    manifest: bytes
    blobs: dict[str, bytes]


@dataclass(frozen=True)
class Order:
    """What is packed: one form of one model for one profile."""

    job: BuildJob
    profile: str
    source: Source
    built: Built
    started: datetime
    finished: datetime


def package(order: Order, key: SigningKey) -> Package:
    files = _files(order)
    body = _manifest(order, {name: member(data) for name, data in files.items()})
    files[form.PROVENANCE] = provenance.sign(_provenance(order, files, body), key)
    body["members"][form.PROVENANCE] = member(files[form.PROVENANCE]).model_dump(mode="json")
    Manifest.model_validate(body)  # what leaves here is what the signer and the devices will read
    return Package(canonical_json(body), {sha256_hex(data): data for data in files.values()})


def member(data: bytes) -> Member:
    chunks = tuple(sha256_hex(data[start : start + CHUNK_BYTES]) for start in range(0, len(data), CHUNK_BYTES))
    return Member(sha256=hashlib.sha256(data).hexdigest(), length=len(data), chunks=chunks)


def _files(order: Order) -> dict[str, bytes]:
    source, built, now = order.source, order.built, order.finished
    return {
        built.variant.member: built.model,
        form.FEATURE_SCHEMA: source.feature_schema_bytes,
        form.PROCESSING: source.processing_bytes,
        form.GOLDEN_INPUT: _npy(built.golden_input),
        form.GOLDEN_OUTPUT: _npy(built.golden_output),
        form.MODEL_SIGNATURE: source.signature,
        form.ML_BOM: bom.ml_bom(order.job.model_version, built.variant.member, sha256_hex(built.model), built.accuracy, now),
        form.SBOM: bom.sbom(now),
    }


def _manifest(order: Order, members: dict[str, Member]) -> dict[str, Any]:
    """The manifest as a JSON object, still without its provenance entry."""
    job, source, built = order.job, order.source, order.built
    version, measured = job.model_version, built.accuracy
    boxes = measured.detection
    f1 = {"f1": boxes.f1, "f1_low": boxes.f1_interval[0], "f1_high": boxes.f1_interval[1]} if boxes else {}
    evaluation = Evaluation(
        **f1, accuracy=measured.quantized, accuracy_fp32=measured.fp32, samples=measured.samples, accuracy_low=measured.low,
        accuracy_high=measured.high, expected_agreement=built.expected_agreement,
    )  # fmt: skip
    parts = {
        "input": source.input, "output": source.output, "feature_schema": source.feature_schema, "tolerance": built.tolerance,
        "limits": built.limits, "evaluation": evaluation,
    }  # fmt: skip
    return {
        "version": 1, "kind": "bundle", "name": job.name, "number": job.number, "profile": order.profile, "model_version": version.id,
        "run": version.run, "data": version.registration.data_digest, "security_epoch": job.security_epoch, "min_agent": MIN_AGENT,
        "variants": [built.variant.model_dump(mode="json")],
        "members": {name: entry.model_dump(mode="json") for name, entry in members.items()},
        **{name: part.model_dump(mode="json") for name, part in parts.items()},
        "labels": list(source.class_labels),
        "window_schemas": [schema.model_dump(mode="json") for schema in source.window_schemas],
    }  # fmt: skip


def _provenance(order: Order, files: dict[str, bytes], body: dict[str, Any]) -> Provenance:
    job = order.job
    version = job.model_version
    return Provenance(
        subjects={**{name: sha256_hex(data) for name, data in files.items()}, MANIFEST_SUBJECT: manifest_body_sha256(body)},
        materials=order.source.materials,
        parameters={
            "name": job.name, "number": job.number, "profile": order.profile, "model_version": version.id, "run": version.run,
            "data": version.registration.data_digest,
        },
        internal={"quantization": order.built.settings, "tools": bom.tool_versions(TOOLS)},
        metadata={"invocationId": job.id, "startedOn": order.started.isoformat(), "finishedOn": order.finished.isoformat()},
    )  # fmt: skip


def _npy(array: F32) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
