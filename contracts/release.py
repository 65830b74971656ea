"""From a registered model to a signed release: build jobs, provenance, approval, the signer's socket."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contracts.ids import Name, Sha256, Wire
from contracts.manifest import Manifest

# -- registration: POST /v1/models/{name}/versions, after the files went to PUT /v1/blobs/<sha256>


class ModelRegistration(Wire):
    """What the training side registers. Files are blobs by sha256; `signature` is OpenSSF model-signing (key mode) over the fp32 model."""

    model: Sha256  # fp32 ONNX
    calibration: Sha256  # .npz {x: float32 (n, *input shape)}
    held_out: Sha256  # .npz {x, y}, split from training by original sample; y: int64 (n,), or of a detector float32 (n, most, 5)
    signature: Sha256  # model.sig (Sigstore bundle JSON, DSSE)
    processing: Sha256  # processing.json
    feature_schema: Sha256  # feature_schema.json
    data_digest: str  # dataset:sha256:<digest> or delta:<table>@<version>
    params: dict[str, str] = {}
    metrics: dict[str, float] = {}


class ModelVersion(Wire):
    name: Name
    version: int
    run: str  # run:<id>
    registration: ModelRegistration
    aliases: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"model:{self.name}/{self.version}"


# -- build


class BuildJob(Wire):
    """GET /internal/v1/builds/next -> 200 job or 204. skerry-build answers by POST /internal/v1/builds/{id}/result."""

    id: str
    name: Name
    number: int
    profiles: tuple[str, ...]
    security_epoch: int
    model_version: ModelVersion
    incumbents: dict[str, Sha256] = {}  # model version id -> blob of its quantized member, for expected_agreement


class BuildResult(Wire):
    """Manifests as blobs; everything they name was uploaded before."""

    manifests: dict[str, Sha256] = {}  # profile -> blob
    code: str = ""  # error code when it failed
    detail: str = ""


class Release(Wire):
    """A group of manifests, one per profile. Its digest is what a person approves."""

    name: Name
    number: int
    manifests: dict[str, Sha256]  # profile -> bundle digest

    @property
    def id(self) -> str:
        return f"{self.name}-{self.number}"


class Approval(Wire):
    """A release manager's Ed25519 signature over CONTEXT_APPROVAL + canonical JSON of the release."""

    release_sha256: Sha256
    key_id: str
    signature: str  # hex


# -- the signer's Unix socket: u32 length (little-endian) + JSON, one answer per request

SIGNER_MAX_BYTES = 1024 * 1024


class SignRelease(Wire):
    """The signer reads manifests and members from the blob store itself, by these digests."""

    op: Literal["sign_release"] = "sign_release"
    release: Release
    approval: Approval


class Renew(Wire):
    op: Literal["renew"] = "renew"


class KeysStatus(Wire):
    op: Literal["status"] = "status"


class SignerAnswer(Wire):
    ok: bool
    code: str = ""
    detail: str = ""
    versions: dict[str, int] = {}  # role -> version of the published metadata
    expires_utc: dict[str, str] = {}  # role -> ISO 8601


class SignedBundle(Wire):
    """A manifest that lies in the image repository: what an assignment may name."""

    manifest: Manifest
    digest: Sha256
    length: int = Field(gt=0)
