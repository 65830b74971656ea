"""One build job from its sources to its manifests. The steps, each logged: verify, quantize, lint, evaluate, package, upload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from contracts.canonical import sha256_hex
from contracts.errors import RejectedError
from contracts.manifest import Variant
from contracts.release import BuildJob, BuildResult
from control_plane.build import figures, forms, lint, package
from control_plane.build.evaluate import Evaluator, Run
from control_plane.build.package import Built, Order
from control_plane.build.quantize import SETTINGS, Form, for_evaluation, quantize
from control_plane.build.source import Source, read
from signatures.ed25519 import SigningKey

FILES = ("model", "calibration", "held_out", "signature", "processing", "feature_schema")


class BlobPort(Protocol):
    def download(self, digest: str) -> bytes: ...

    def upload(self, data: bytes) -> str: ...


@dataclass(frozen=True)
class Policy:
    """What a bundle must keep to; see BuildConfig."""

    max_accuracy_loss: float
    min_held_out: int
    golden_vectors: int


@dataclass(frozen=True)
class Builder:
    """`progress(step, **fields)` is called after each completed step; `now` gives the time."""

    blobs: BlobPort
    evaluator: Evaluator
    key: SigningKey
    model_keys: dict[str, str]
    policy: Policy
    progress: Callable[..., None]
    now: Callable[[], datetime]

    def build(self, job: BuildJob) -> BuildResult:
        """Everything that a manifest names is uploaded before the result is returned. Raises BUILD_* and API_UNREACHABLE."""
        started = self.now()
        targets = {profile: forms.target(profile) for profile in job.profiles}
        registration = job.model_version.registration
        files = {name: self.blobs.download(getattr(registration, name)) for name in FILES}
        source = read(registration, files, self.model_keys, self.policy.min_held_out)
        self.progress("source_verified", samples=len(source.held_out), always_null=source.always_null)
        reference = self.evaluator.run(source.model, source.input, source.output, source.held_out)
        self.progress("reference_evaluated", backend_version=reference.backend_version)
        built: dict[Form, Built] = {}
        manifests: dict[str, str] = {}
        for profile, target in targets.items():
            if target.form not in built:
                built[target.form] = self._build(job, source, reference, target)
            manifests[profile] = self._package(Order(job, profile, source, built[target.form], started, self.now()))
        return BuildResult(manifests=manifests)

    def _build(self, job: BuildJob, source: Source, reference: Run, target: forms.Target) -> Built:
        model = quantize(source.model, source.input.name, source.calibration, target.form)
        self.progress("quantized", form=target.form, length_bytes=len(model))
        lint.refuse(model, target.form)
        self.progress("linted", form=target.form)
        measured = self.evaluator.run(for_evaluation(model, target.form), source.input, source.output, source.held_out)
        quantized, fp32 = (figures.answers(run.outputs, source.processing) for run in (measured, reference))
        truths = [source.processing.truth(label) for label in source.labels]
        accuracy = figures.accuracy(quantized, fp32, truths, source.processing)
        self.progress("evaluated", form=target.form, accuracy=accuracy.quantized, accuracy_fp32=accuracy.fp32, samples=accuracy.samples)
        figures.check_accuracy(accuracy, self.policy.max_accuracy_loss, target.form)
        golden = figures.golden_indices(len(source.held_out), self.policy.golden_vectors)
        return Built(
            variant=_variant(target),
            model=model,
            golden_input=source.held_out[golden],
            golden_output=reference.outputs[golden],
            tolerance=figures.tolerance(measured.outputs[golden], reference.outputs[golden], source.processing),
            limits=figures.limits(measured.rss_bytes, measured.cpu_p95_us),
            accuracy=accuracy,
            settings=_settings(target.form, len(source.calibration)),
            expected_agreement=self._agreements(job, source, quantized),
        )

    def _agreements(self, job: BuildJob, source: Source, candidate: figures.Answers) -> dict[str, float]:
        """With each incumbent that takes the same tensors; one that does not cannot shadow, and is left out and named in the log."""
        agreements = {}
        for version, digest in job.incumbents.items():
            try:
                incumbent = self.evaluator.run(self.blobs.download(digest), source.input, source.output, source.held_out)
            except RejectedError as unlike:
                self.progress("incumbent_not_comparable", incumbent=version, detail=unlike.detail)
                continue
            answers = figures.answers(incumbent.outputs, source.processing)
            agreements[version] = figures.agreement(candidate, answers, source.processing)
            self.progress("incumbent_compared", incumbent=version, agreement=agreements[version])
        return agreements

    def _package(self, order: Order) -> str:
        packed = package.package(order, self.key)
        for data in packed.blobs.values():
            self.blobs.upload(data)
        self.blobs.upload(packed.manifest)
        self.progress("packaged", profile=order.profile, bundle_digest=sha256_hex(packed.manifest))
        return sha256_hex(packed.manifest)


def _variant(target: forms.Target) -> Variant:
    return Variant(
        member=f"model.{target.form}.onnx", backend=target.backend, precision=target.precision, runtime_min=target.runtime_min,
        runtime_max=target.runtime_max,
    )  # fmt: skip


def _settings(form: Form, samples: int) -> dict[str, Any]:
    chosen = {name: str(value) for name, value in SETTINGS[form].items()}
    return {"form": form, "per_channel": True, "calibration": "MinMax", "samples": samples, **chosen}
