"""A site and the people who sign, around a real `skerry-signer`: bundles are made by the builder's own packaging code,
approved by the approver's key, and lie in a blob folder that the test can spoil.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from contracts.canonical import CONTEXT_APPROVAL, canonical_json, sha256_hex
from contracts.manifest import Limits, Tolerance, Variant
from contracts.release import Approval, Release, SignRelease
from control_plane.build import figures, source
from control_plane.build.package import Built, Order, package
from control_plane.ceremony.ceremony import make_site
from control_plane.ceremony.layout import Owner, Site
from control_plane.signer.config import SignerConfig
from signatures.ed25519 import SigningKey
from signatures.model_signature import pinned
from tests.simulators.small_line import Registered, register, small_data, small_model

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
PROFILES = ("x86-cpu-avx2", "x86-cpu-vnni")


@dataclass(frozen=True)
class ReleaseLine:
    site: Site
    blobs: Path

    @classmethod
    def make(cls, folder: Path, owners: tuple[tuple[str, Owner], ...] = (), now: datetime = NOW) -> ReleaseLine:
        site = Site(folder / "site", owners)
        make_site(site, PROFILES, "localhost", now)
        (folder / "blobs").mkdir()
        (folder / "signer-state").mkdir(mode=0o700)
        return cls(site, folder / "blobs")

    def config(self, **changed: Any) -> SignerConfig:
        base = self.site.folder.parent
        return SignerConfig(
            **{
                "state_dir": base / "signer-state", "run_dir": base / "run", "keys_dir": self.site.signer_keys,
                "image_dir": self.site.image, "blobs_dir": self.blobs, "public_dir": self.site.public, "allowed_uids": (0,), **changed,
            }
        )  # fmt: skip

    # -- the training side and the builder

    def registered(self) -> Registered:
        return register(self.site.read("trainer/model-signing.pem"))

    def order(self, profile: str, number: int = 1) -> Order:
        """All that packaging needs, with figures made up: how they are measured is the build job's test."""
        registered = self.registered()
        files = {name: registered.blobs[getattr(registered.registration, name)] for name in (
            "model", "calibration", "held_out", "signature", "processing", "feature_schema")}  # fmt: skip
        read = source.read(registered.registration, files, pinned(self.site.read("public/model-signing.pub.pem").decode()), 100)
        x, y = small_data(12, seed=4)
        outputs = np.eye(3, dtype=np.float32)[y]
        answers, truths = figures.answers(outputs, read.processing), [read.processing.truth(label) for label in y]
        variant = Variant(
            member="model.qdq_cpu.onnx", backend="onnxruntime", precision="int8_qdq_cpu", runtime_min="1.19", runtime_max="1.99"
        )
        built = Built(
            variant, small_model() + b"\0" * 70_000, x, outputs, Tolerance(max_abs=0.1, top1_agreement=0.9),
            Limits(memory_bytes=200 << 20, latency_p95_us=5000), figures.accuracy(answers, answers, truths, read.processing),
            {"form": "qdq_cpu"},
        )  # fmt: skip
        return Order(registered.job(PROFILES, number), profile, read, built, NOW, NOW)

    def bundle(self, profile: str, number: int = 1, builder: SigningKey | None = None, latency_us: int = 5000) -> bytes:
        """Manifest bytes of a packaged bundle; it and its members are put into the blob folder."""
        order = self.order(profile, number)
        order = replace(order, built=replace(order.built, limits=Limits(memory_bytes=200 << 20, latency_p95_us=latency_us)))
        packed = package(order, builder or SigningKey.from_pem(self.site.read("build/keys/builder.pem")))
        for data in [packed.manifest, *packed.blobs.values()]:
            self.put(data)
        return packed.manifest

    def put(self, data: bytes) -> str:
        path = self.blob(sha256_hex(data))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path.name

    def blob(self, digest: str) -> Path:
        return self.blobs / digest[:2] / digest

    # -- release and approval

    def release(self, manifests: Mapping[str, bytes], number: int = 1) -> Release:
        return Release(name="small", number=number, manifests={profile: sha256_hex(data) for profile, data in manifests.items()})

    def approve(self, release: Release, key: SigningKey | None = None) -> Approval:
        key = key or SigningKey.from_pem(self.site.read("approver/approver.pem"))
        approved = canonical_json(release.model_dump(mode="json"))
        return Approval(release_sha256=sha256_hex(approved), key_id=key.key_id, signature=key.sign(CONTEXT_APPROVAL, approved).hex())

    def request(self, number: int = 1, profiles: tuple[str, ...] = PROFILES) -> SignRelease:
        """A good request for a fresh release."""
        release = self.release({profile: self.bundle(profile, number) for profile in profiles}, number)
        return SignRelease(release=release, approval=self.approve(release))

    def resealed(self, manifest: bytes, **changed: Any) -> bytes:
        """The manifest with fields changed by whoever holds the blob folder, and put there."""
        data = canonical_json({**json.loads(manifest), **changed})
        self.put(data)
        return data


def ask(path: Path, data: bytes, timeout_s: float = 20) -> dict[str, Any]:
    """One framed question to a signer's socket, and its answer."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(timeout_s)
        peer.connect(str(path))
        peer.sendall(struct.pack("<I", len(data)) + data)
        return read_answer(peer)


def read_answer(peer: socket.socket) -> dict[str, Any]:
    """{} when the signer closed instead of answering."""
    head = peer.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        return {}
    answer: dict[str, Any] = json.loads(peer.recv(struct.unpack("<I", head)[0], socket.MSG_WAITALL))
    return answer


def later(**units: float) -> datetime:
    return NOW + timedelta(**units)
