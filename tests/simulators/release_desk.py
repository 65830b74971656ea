"""Everything around releases without the processes: a real database and blob folder, a simulated registry, a signer on a string."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.canonical import CONTEXT_APPROVAL, canonical_json, sha256_hex
from contracts.errors import error
from contracts.features import FRAME_COLUMNS, FeatureSchema
from contracts.manifest import REQUIRED_MEMBERS, Evaluation, Limits, Manifest, Member, TensorSpec, Tolerance, Variant
from contracts.operator import ReleaseView
from contracts.release import Approval, BuildJob, BuildResult, ModelRegistration, ModelVersion, Release, SignerAnswer
from control_plane.adapters.blobs import BlobStore
from control_plane.services import builds
from control_plane.services import releases as cases
from control_plane.services.models import Models
from control_plane.services.releases import Approvers
from control_plane.services.releases_open import Building
from control_plane.services.unit_of_work import Units
from control_plane.store import base, events
from control_plane.store import devices as _devices  # noqa: F401 - its tables are made with the others
from control_plane.store import releases as rows
from signatures.ed25519 import SigningKey
from tests.simulators.clock import SimulatedClock
from tests.simulators.registry import SimulatedRegistry

NAME = "digits_line"
PROFILE = "x86-cpu-avx2"
BUILDER = "service:svc-build-1"
FILES = ("model", "calibration", "held_out", "signature", "processing", "feature_schema")
MODEL_MEMBER = "model.qdq_cpu.onnx"

VARIANT = Variant(member=MODEL_MEMBER, backend="onnxruntime", precision="int8_qdq_cpu", runtime_min="1.19", runtime_max="1.99")


@dataclass
class SignerOnAString:
    """SignerClient's face: it signs, or is away, or refuses with a code."""

    away: bool = False
    refuses: str = ""
    signed: list[Release] = field(default_factory=list)

    def sign_release(self, release: Release, approval: Approval) -> SignerAnswer:
        if self.away:
            raise error("SIGNER_UNREACHABLE", "simulated")
        if self.refuses:
            raise error(self.refuses, release.id)
        self.signed.append(release)
        return SignerAnswer(ok=True, versions={"timestamp": len(self.signed)})


class ReleaseDesk:
    def __init__(self, folder: Path, profiles: tuple[str, ...] = (PROFILE,)) -> None:
        self.clock, self.registry, self.signer = SimulatedClock(), SimulatedRegistry(), SignerOnAString()
        engine = base.make_engine(f"sqlite:///{folder / 'skerry.db'}")
        base.Base.metadata.create_all(engine)
        self.database = base.Database(engine)
        self.units = Units(self.database, self.clock)
        self.blobs = BlobStore(folder / "blobs")
        self.models = Models(self.registry, self.units, self.blobs, Building(profiles, 1))
        self.approver, self.stranger = (SigningKey(Ed25519PrivateKey.from_private_bytes(seed * 32)) for seed in (b"a", b"s"))
        self.approvers = Approvers((self.approver.public,))

    def close(self) -> None:
        self.database.close()

    # -- the training side

    def register(self, seed: str = "1") -> ModelVersion:
        files = {name: self.blobs.put(f"{name} {seed}".encode()) for name in FILES}
        return self.models.register(NAME, ModelRegistration(**files, data_digest=f"dataset:sha256:{seed * 64}"), "operator:test")

    def candidate(self, version: int) -> ModelVersion:
        return self.models.move_alias(NAME, "candidate", version, "operator:test")

    # -- the builder

    def next_job(self, builder: str = BUILDER) -> BuildJob | None:
        return builds.next_job(self.units, builder, lease_s=60)

    def manifest(self, job: BuildJob, profile: str = PROFILE, **changed: Any) -> str:
        """Digest of a manifest for `job` whose members are in the blob store."""
        members = {name: self._member(f"{name} of {job.id}") for name in (*REQUIRED_MEMBERS, MODEL_MEMBER)}
        version = job.model_version
        manifest = Manifest(
            name=job.name, number=job.number, profile=profile, model_version=version.id, run=version.run,
            data=version.registration.data_digest, security_epoch=job.security_epoch, min_agent="0.1", members=members,
            input=TensorSpec(name="x", dtype="f32", shape=(1, 1, 32, 32)), output=TensorSpec(name="p", dtype="f32", shape=(1, 10)),
            variants=(VARIANT,),
            feature_schema=FeatureSchema(family=job.name, columns=FRAME_COLUMNS),
            window_schemas=(FeatureSchema(family=f"{job.name}__w", columns=FRAME_COLUMNS),),
            tolerance=Tolerance(max_abs=0.1, top1_agreement=1),
            limits=Limits(memory_bytes=1, latency_p95_us=1), evaluation=Evaluation(accuracy=1, accuracy_fp32=1, samples=1),
        )  # fmt: skip
        return self.blobs.put(canonical_json({**manifest.model_dump(mode="json"), **changed}))

    def _member(self, content: str) -> Member:
        digest = self.blobs.put(content.encode())
        return Member(sha256=digest, length=len(content.encode()), chunks=(digest,))

    def answer(self, job: BuildJob, result: BuildResult, builder: str = BUILDER) -> None:
        builds.take_result(self.units, self.blobs, builder, job.id, result)

    def build(self) -> BuildJob:
        """Take the next job and build it well."""
        job = self.next_job()
        assert job is not None
        self.answer(job, BuildResult(manifests={profile: self.manifest(job, profile) for profile in job.profiles}))
        return job

    # -- the release manager and the signer

    def release(self, release_id: str) -> Release:
        view = self.view(release_id)
        assert view.release is not None
        return view.release

    def approval(self, release: Release, key: SigningKey | None = None) -> Approval:
        key, message = key or self.approver, canonical_json(release.model_dump(mode="json"))
        return Approval(release_sha256=sha256_hex(message), key_id=key.key_id, signature=key.sign(CONTEXT_APPROVAL, message).hex())

    def approve(self, release_id: str, key: SigningKey | None = None) -> None:
        cases.approve(self.units, self.approvers, release_id, self.approval(self.release(release_id), key), "operator:test")

    def sign(self, release_id: str) -> None:
        cases.sign(self.units, self.signer, self.blobs, release_id)

    def signed_release(self, seed: str = "1") -> str:
        """A model all the way to a signed release; the release's id."""
        self.candidate(self.register(seed).version)
        job = self.build()
        release_id = f"{job.name}-{job.number}"
        self.approve(release_id)
        self.sign(release_id)
        return release_id

    # -- looking

    def view(self, release_id: str) -> ReleaseView:
        with self.units.read() as session:
            return cases.one_release(session, release_id)

    def states(self) -> dict[str, str]:
        with self.units.read() as session:
            return {row.id: row.state for row in rows.releases(session)}

    def events(self, *names: str) -> list[str]:
        """`event subject` of each line, all or those named."""
        with self.units.read() as session:
            return [f"{line.event} {line.subject}" for line in events.read(session, 0, 10_000) if not names or line.event in names]
