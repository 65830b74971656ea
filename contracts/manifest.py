"""The bundle's manifest: the TUF target `bundles/<profile>/<name>-<n>.json`, at most 256 KiB. Its sha256 is the bundle digest."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from contracts.features import FeatureSchema
from contracts.ids import Name, Sha256, Wire

MANIFEST_MAX_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024
MEMBER_NAME = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,63}$")
MemberName = Annotated[str, StringConstraints(pattern=MEMBER_NAME.pattern)]
Profile = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Label = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]

# Members that every bundle has, under these names.
FEATURE_SCHEMA = "feature_schema.json"
PROCESSING = "processing.json"
GOLDEN_INPUT = "golden_input.npy"
GOLDEN_OUTPUT = "golden_output.npy"
MODEL_SIGNATURE = "model.sig"
PROVENANCE = "provenance.dsse.json"
ML_BOM = "mlbom.cdx.json"
SBOM = "sbom.cdx.json"
REQUIRED_MEMBERS = (
    FEATURE_SCHEMA, PROCESSING, GOLDEN_INPUT, GOLDEN_OUTPUT, MODEL_SIGNATURE, PROVENANCE, ML_BOM, SBOM,
)  # fmt: skip


class Member(Wire):
    sha256: Sha256
    length: int = Field(ge=0, le=4 * 1024**3)
    chunks: tuple[Sha256, ...]  # sha256 of each CHUNK_BYTES piece, the last one shorter; () when length is 0


class TensorSpec(Wire):
    """`shape` is the largest request; the arena's cells hold it. Row-major, little-endian."""

    name: str
    dtype: Literal["f32", "f16", "i8", "u8", "i32", "i64"]
    shape: tuple[int, ...]


class Tolerance(Wire):
    """Golden outputs come from the fp32 reference at packaging; the device's output must lie this near."""

    max_abs: float
    top1_agreement: float = Field(ge=0, le=1)  # share of vectors whose arg max is equal; 0 for a detector, whose arg max names nothing
    answer_agreement: float = Field(default=0, ge=0, le=1)  # of a detector: share of vectors whose post-processed answers agree


class Variant(Wire):
    """One precision of the model: which member, for which backend, with which runtime range (inclusive, `major.minor`)."""

    member: MemberName
    backend: Literal["onnxruntime", "tensorrt", "tensorrt_rtx", "openvino", "fake"]
    precision: Literal["fp32", "int8_qdq_cpu", "int8_qdq_trt"]
    runtime_min: str
    runtime_max: str
    tolerance: Tolerance | None = None  # of this backend and precision; None: the manifest's


class Limits(Wire):
    """The bundle's own promises; the device vetoes when they are broken."""

    memory_bytes: int = Field(gt=0)
    latency_p95_us: int = Field(gt=0)


class Evaluation(Wire):
    """Measured by skerry-build on the held-out set with the quantized member, per promise P5.

    `accuracy`: share of samples whose answer is right: the label, or all boxes of a frame and no other (IoU >= 0.5).
    """

    accuracy: float
    accuracy_fp32: float
    samples: int
    accuracy_low: float | None = None  # 95 % interval of `accuracy`
    accuracy_high: float | None = None
    f1: float | None = None  # of a detector's boxes, with its 95 % interval
    f1_low: float | None = None
    f1_high: float | None = None
    # model version id (`model:<name>/<v>`) of an incumbent -> share of held-out samples on which both agree
    expected_agreement: dict[str, float] = {}


class Manifest(Wire):
    version: Literal[1] = 1
    kind: Literal["bundle"] = "bundle"
    name: Name
    number: int = Field(ge=1)  # the <n>: dense per (profile, name), never signed twice with other content
    profile: Profile
    model_version: str  # model:<name>/<v>
    run: str  # run:<id>
    data: str  # delta:<table>@<version> or dataset:sha256:<digest>
    security_epoch: int = Field(ge=1)
    min_agent: str
    input: TensorSpec
    output: TensorSpec
    variants: tuple[Variant, ...] = Field(min_length=1)
    members: dict[MemberName, Member]
    feature_schema: FeatureSchema  # equal to the member's content; here so that the agent needs no second read
    labels: tuple[Label, ...] = ()  # what the elements of the output's last dimension mean, in their order; () when nobody said it
    window_schemas: tuple[FeatureSchema, ...] = Field(default=(), max_length=8)  # of processing.json's windows, in its order
    tolerance: Tolerance
    limits: Limits
    evaluation: Evaluation

    @model_validator(mode="after")
    def _members_present(self) -> Manifest:
        missing = {*REQUIRED_MEMBERS, *(variant.member for variant in self.variants)} - set(self.members)
        if missing:
            raise ValueError(f"members missing: {', '.join(sorted(missing))}")
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> Manifest:
        if self.labels and self.output.shape[-1:] != (len(self.labels),):
            raise ValueError(f"{len(self.labels)} labels for an output of {self.output.shape}")
        return self

    @property
    def target_path(self) -> str:
        return f"bundles/{self.profile}/{self.name}-{self.number}.json"


PROCESSING_FIELDS = frozenset({"pre", "post", "windows", "rows", "labels"})


def processing_spec(raw: Any) -> dict[str, Any]:
    """Shape of processing.json, as docs/reference/processing.md has it:

    {"pre": [{"op": ...}, ...], "post": [{"op": ...}, ...], "windows": [...], "rows": ..., "labels": [...]}
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("pre"), list) or not isinstance(raw.get("post"), list):
        raise ValueError("processing.json holds two lists, pre and post")
    unknown = sorted(raw.keys() - PROCESSING_FIELDS)
    if unknown:  # a bundle is built once: here a misspelt name can still be said, on the device its windows would only be missing
        raise ValueError(f"processing.json has no field {unknown[0][:40]!r}; known: {', '.join(sorted(PROCESSING_FIELDS))}")
    return raw
