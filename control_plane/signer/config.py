"""Configuration of `skerry-signer`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from program.config import Config


class SignerConfig(Config):
    keys_dir: Path  # private keys: profile-<profile>.pem, snapshot.pem, timestamp.pem; readable by this user alone
    image_dir: Path  # the published image repository; written by this program only
    blobs_dir: Path  # the blob folder, read only: manifests and members by sha256
    public_dir: Path  # pins: builder.pub, approver.pub, model-signing.pub.pem
    allowed_uids: tuple[int, ...] = Field(min_length=1)  # uids that may call; everybody else gets SIGNER_PEER
    socket: Path | None = None  # Unix socket; default run_dir/signer.sock
    role_life_s: float = Field(default=30 * 86_400, gt=0)  # life of a profile role's metadata
    snapshot_life_s: float = Field(default=30 * 86_400, gt=0)  # life of snapshot.json
    timestamp_life_s: float = Field(default=86_400, gt=0)  # life of timestamp.json; an offline site takes 30 days

    @property
    def socket_path(self) -> Path:
        return self.socket or self.run_dir / "signer.sock"
