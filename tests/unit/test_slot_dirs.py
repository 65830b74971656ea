"""Slots on a real disk: whole or not there, never a third state; nothing unverified gets a name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import LocalFaultError, TransientError, TrustError, error
from contracts.manifest import Manifest, Member
from edge_agent.adapters.slot_dirs import SlotDirs
from edge_agent.core.admission import AdmittedBundle
from tests.simulators.bundle_bytes import BundleBytes, make_bundle

V1, V2 = make_bundle(1, model=b"m" * 200_000), make_bundle(2)


class Shop:
    """Where members come from; may run dry, or sell other bytes."""

    def __init__(self, *bundles: BundleBytes) -> None:
        self.blobs = {digest: data for bundle in bundles for digest, data in bundle.blobs.items()}
        self.sold: list[str] = []
        self.dry_after: int | None = None

    def fetch(self, member: Member, path: Path, stopped: Callable[[], bool]) -> None:
        if path.exists() and path.read_bytes() == self.blobs[member.sha256]:
            return
        if self.dry_after == 0:
            raise error("API_UNREACHABLE", member.sha256)
        if self.dry_after:
            self.dry_after -= 1
        self.sold.append(member.sha256)
        path.write_bytes(self.blobs[member.sha256])


def accept(manifest: Manifest, model_sig: bytes, provenance: bytes) -> None:
    assert model_sig


def refuse(manifest: Manifest, model_sig: bytes, provenance: bytes) -> None:
    raise error("BUNDLE_MODEL_SIGNATURE", "model.sig")


def admitted(bundle: BundleBytes) -> AdmittedBundle:
    return AdmittedBundle(bundle.digest, Manifest.model_validate_json(bundle.manifest), bundle.manifest)


def never() -> bool:
    return False


@pytest.fixture
def shop() -> Shop:
    return Shop(V1, V2)


@pytest.fixture
def slots(tmp_path: Path, shop: Shop) -> SlotDirs:
    return SlotDirs(tmp_path / "slots", shop.fetch, accept, margin_bytes=0)


def install(slots: SlotDirs, bundle: BundleBytes) -> None:
    slots.stage(admitted(bundle), never)
    slots.seal(bundle.digest)


def test_a_slot_holds_the_signed_bytes(slots: SlotDirs) -> None:
    install(slots, V1)
    assert (slots.path(V1.digest) / "manifest.json").read_bytes() == V1.manifest
    assert slots.verify(V1.digest) == slots.manifest(V1.digest)
    assert (slots.path(V1.digest) / "model.onnx").stat().st_mode & 0o777 == 0o444


def test_twice_is_once(slots: SlotDirs, shop: Shop) -> None:
    for _ in range(2):
        install(slots, V1)
        slots.activate(V1.digest)
    assert len(shop.sold) == len(set(shop.sold)) == len(V1.members)
    assert (slots.current(), slots.previous()) == (V1.digest, "")


def test_staging_that_was_torn_is_resumed(slots: SlotDirs, shop: Shop, tmp_path: Path) -> None:
    shop.dry_after = 3
    with pytest.raises(TransientError):
        slots.stage(admitted(V1), never)
    assert not slots.path(V1.digest).exists()
    torn = tmp_path / "slots" / ".staging" / V1.digest
    next(torn.iterdir()).write_bytes(b"")
    shop.dry_after = None
    install(slots, V1)
    assert slots.verify(V1.digest).number == 1


def test_torn_staging_is_never_sealed(slots: SlotDirs, tmp_path: Path) -> None:
    slots.stage(admitted(V1), never)
    (tmp_path / "slots" / ".staging" / V1.digest / "model.onnx").write_bytes(b"m" * 199_999)
    with pytest.raises(TrustError) as refused:
        slots.seal(V1.digest)
    assert refused.value.code == "BUNDLE_MEMBER_DIGEST"
    assert not slots.path(V1.digest).exists()
    install(slots, V1)
    assert slots.verify(V1.digest).number == 1


@pytest.mark.parametrize("harm", ["extra", "link", "missing", "manifest"])
def test_what_is_not_in_the_manifest_is_not_sealed(slots: SlotDirs, tmp_path: Path, harm: str) -> None:
    slots.stage(admitted(V1), never)
    folder = tmp_path / "slots" / ".staging" / V1.digest
    if harm == "extra":
        (folder / "extra.so").write_bytes(b"x")
    elif harm == "link":
        shutil.move(folder / "model.onnx", tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", folder / "model.onnx")
    elif harm == "missing":
        (folder / "model.onnx").unlink()
    else:
        (folder / "manifest.json").write_bytes(V2.manifest)
    with pytest.raises(TrustError) as refused:
        slots.seal(V1.digest)
    assert refused.value.code == "BUNDLE_MEMBER_DIGEST"


def test_without_the_training_sides_signature_nothing_is_sealed(tmp_path: Path, shop: Shop) -> None:
    slots = SlotDirs(tmp_path / "slots", shop.fetch, refuse, margin_bytes=0)
    slots.stage(admitted(V1), never)
    with pytest.raises(TrustError) as refused:
        slots.seal(V1.digest)
    assert refused.value.code == "BUNDLE_MODEL_SIGNATURE"
    assert not slots.path(V1.digest).exists()


def test_members_are_shared_between_versions(slots: SlotDirs, shop: Shop) -> None:
    install(slots, V1)
    both = make_bundle(3, model=V1.members["model.onnx"])
    shop.blobs |= both.blobs
    sold = len(shop.sold)
    install(slots, both)
    assert len(shop.sold) - sold == len(both.members) - 1


def test_switching_remembers_where_it_came_from(slots: SlotDirs) -> None:
    install(slots, V1)
    install(slots, V2)
    slots.activate(V1.digest)
    slots.activate(V2.digest)
    assert (slots.current(), slots.previous()) == (V2.digest, V1.digest)
    slots.activate(V1.digest)
    assert (slots.current(), slots.previous()) == (V1.digest, V2.digest)
    slots.activate("")
    assert slots.current() == ""


def test_bit_rot_is_found_at_start(slots: SlotDirs) -> None:
    install(slots, V1)
    path = slots.path(V1.digest) / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(b"M" + b"m" * 199_999)
    with pytest.raises(TrustError) as refused:
        slots.verify(V1.digest)
    assert refused.value.code == "BUNDLE_MEMBER_DIGEST"


def test_only_named_slots_and_the_current_one_are_kept(slots: SlotDirs, tmp_path: Path) -> None:
    install(slots, V1)
    install(slots, V2)
    slots.activate(V1.digest)
    slots.keep_only(frozenset())
    assert slots.path(V1.digest).is_dir()
    assert not slots.path(V2.digest).exists()
    assert list((tmp_path / "slots" / ".staging").iterdir()) == []


def test_too_little_space(tmp_path: Path, shop: Shop) -> None:
    slots = SlotDirs(tmp_path / "slots", shop.fetch, accept, margin_bytes=1 << 60)
    with pytest.raises(LocalFaultError) as refused:
        slots.check_space(admitted(V1))
    assert refused.value.code == "BUNDLE_NO_SPACE"
