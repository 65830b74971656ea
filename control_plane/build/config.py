"""Configuration of `skerry-build`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from program.config import Config


class BuildConfig(Config):
    control_url: str  # https://host:8443 of the control plane
    certificate: Path  # svc-build-<n>.crt: leaf and intermediate, PEM
    key: Path  # its private key, PEM
    server_ca: Path  # site-ca.crt: who the control plane must be signed by
    builder_key: Path  # builder.pem (Ed25519): signs the provenance
    public_dir: Path  # pins: model-signing.pub.pem
    worker_python: Path | None = None  # interpreter that runs the device's worker for the evaluation; default: this program's own
    max_accuracy_loss: float = Field(default=0.02, ge=0, le=1)  # share of held-out samples that quantization may cost
    min_held_out: int = Field(default=100, ge=1)  # fewer held-out samples prove nothing
    golden_vectors: int = Field(default=16, ge=1, le=256)  # inputs and fp32 outputs that each device checks itself against
    evaluation_timeout_s: float = Field(default=600, gt=0)  # one model over the whole held-out set
    poll_s: float = Field(default=1, gt=0)  # pause between two polls that found no job
    request_timeout_s: float = Field(default=40, gt=0)  # one request; longer than the server's long poll
    nice: int = Field(default=10, ge=0, le=19)  # a build never competes with what serves
