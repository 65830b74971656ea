"""What the signer refuses, with the code of each refusal. The caller is taken for an attacker who holds the whole blob folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.canonical import canonical_json, sha256_hex
from contracts.errors import SkerryError
from contracts.manifest import MANIFEST_MAX_BYTES, MODEL_SIGNATURE, PROVENANCE
from contracts.release import Approval, KeysStatus, Release, Renew, SignRelease
from control_plane.signer.program import make_signer
from control_plane.signer.repository import Repository
from control_plane.signer.service import Signer, parse
from signatures import model_signature
from signatures.ed25519 import SigningKey
from tests.simulators.release_line import NOW, PROFILES, ReleaseLine, later
from tests.unit.test_model_signature import key_pair

ONE = PROFILES[:1]


@pytest.fixture
def line(tmp_path: Path) -> ReleaseLine:
    return ReleaseLine.make(tmp_path)


@pytest.fixture
def signer(line: ReleaseLine) -> Signer:
    return make_signer(line.config())


def refused(signer: Signer, request: SignRelease) -> str:
    before = signer.publisher.repository.versions(), dict(signer.publisher.record.signed)
    with pytest.raises(SkerryError) as refusal:
        signer.answer(request, NOW)
    assert (signer.publisher.repository.versions(), dict(signer.publisher.record.signed)) == before, "it signed all the same"
    return refusal.value.code


def approved(line: ReleaseLine, manifest: bytes, number: int = 1, profile: str = PROFILES[0]) -> SignRelease:
    release = line.release({profile: manifest}, number)
    return SignRelease(release=release, approval=line.approve(release))


def other_key(line: ReleaseLine) -> SigningKey:
    return SigningKey.from_pem(line.site.read("ingest/keys/ack.pem"))


def test_a_good_release_is_signed_for_every_profile_at_once(line: ReleaseLine, signer: Signer) -> None:
    request = line.request()
    answer = signer.answer(request, NOW)
    assert answer.ok
    assert answer.versions == {"root": 1, "targets": 1, "snapshot": 2, "timestamp": 2, **{f"profile-{profile}": 2 for profile in PROFILES}}
    for profile in PROFILES:
        [(path, target)] = Repository(line.site.image).role(f"profile-{profile}").targets.items()
        assert (path, target.hashes) == (f"bundles/{profile}/small-1.json", {"sha256": request.release.manifests[profile]})


def test_the_same_release_again_is_answered_and_not_signed_again(line: ReleaseLine, signer: Signer) -> None:
    request = line.request()
    assert signer.answer(request, NOW) == signer.answer(request, later(minutes=1))


class TestApproval:
    def test_by_a_key_that_is_not_pinned(self, line: ReleaseLine, signer: Signer) -> None:
        request = line.request(profiles=ONE)
        approval = line.approve(request.release, other_key(line))
        assert refused(signer, request.model_copy(update={"approval": approval})) == "SIGNER_APPROVAL"
        borrowed = approval.model_copy(update={"key_id": request.approval.key_id})
        assert refused(signer, request.model_copy(update={"approval": borrowed})) == "SIGNER_APPROVAL"

    def test_of_another_release(self, line: ReleaseLine, signer: Signer) -> None:
        request, another = line.request(profiles=ONE), line.request(2, ONE)
        assert refused(signer, request.model_copy(update={"approval": another.approval})) == "SIGNER_APPROVAL"
        renamed = another.approval.model_copy(update={"release_sha256": request.approval.release_sha256})
        assert refused(signer, request.model_copy(update={"approval": renamed})) == "SIGNER_APPROVAL"

    @pytest.mark.parametrize("signature", ["", "zz", "00" * 64, "00" * 63])
    def test_without_a_signature(self, line: ReleaseLine, signer: Signer, signature: str) -> None:
        request = line.request(profiles=ONE)
        approval = Approval(release_sha256=request.approval.release_sha256, key_id=request.approval.key_id, signature=signature)
        assert refused(signer, request.model_copy(update={"approval": approval})) == "SIGNER_APPROVAL"

    def test_with_a_profile_slipped_in_after_it(self, line: ReleaseLine, signer: Signer) -> None:
        request = line.request(profiles=ONE)
        more = Release(name="small", number=1, manifests={**request.release.manifests, PROFILES[1]: "0" * 64})
        assert refused(signer, request.model_copy(update={"release": more})) == "SIGNER_APPROVAL"


class TestManifest:
    def test_absent_or_with_other_bytes(self, line: ReleaseLine, signer: Signer) -> None:
        request = line.request(profiles=ONE)
        blob = line.blob(request.release.manifests[PROFILES[0]])
        blob.write_bytes(blob.read_bytes() + b" ")
        assert refused(signer, request) == "SIGNER_MANIFEST"
        blob.unlink()
        assert refused(signer, request) == "SIGNER_MANIFEST"

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda data: b"",
            lambda data: b"[" * 50_000,
            lambda data: b"{}",
            lambda data: data[:-1],
            lambda data: json.dumps(json.loads(data)).encode(),  # the same content, not canonical
            lambda data: data.replace(b'"name":"small"', b'"name":"other","name":"small"'),  # two readers, two meanings
            lambda data: data + b" " * MANIFEST_MAX_BYTES,
            lambda data: data.replace(b'"kind":"bundle"', b'"kind":"firmware"'),
        ],
    )
    def test_of_another_form(self, line: ReleaseLine, signer: Signer, spoil: Callable[[bytes], bytes]) -> None:
        data = spoil(line.bundle(PROFILES[0]))
        line.put(data)
        assert refused(signer, approved(line, data)) == "SIGNER_MANIFEST"

    def test_of_another_profile_name_or_number(self, line: ReleaseLine, signer: Signer) -> None:
        data = line.bundle(PROFILES[0])
        assert refused(signer, approved(line, data, profile=PROFILES[1])) == "SIGNER_MANIFEST"
        assert refused(signer, approved(line, data, number=2)) == "SIGNER_MANIFEST"

    def test_for_a_profile_without_a_key(self, line: ReleaseLine, signer: Signer) -> None:
        data = line.bundle("jetson-orin-trt10")
        assert refused(signer, approved(line, data, profile="jetson-orin-trt10")) == "SIGNER_MANIFEST"

    def test_none_at_all(self, line: ReleaseLine, signer: Signer) -> None:
        release = Release(name="small", number=1, manifests={})
        assert refused(signer, SignRelease(release=release, approval=line.approve(release))) == "SIGNER_MANIFEST"


class TestMembers:
    def member(self, line: ReleaseLine, manifest: bytes, name: str) -> Path:
        return line.blob(json.loads(manifest)["members"][name]["sha256"])

    def test_one_byte_of_a_member_changed(self, line: ReleaseLine, signer: Signer) -> None:
        manifest = line.bundle(PROFILES[0])
        path = self.member(line, manifest, "model.qdq_cpu.onnx")
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert refused(signer, approved(line, manifest)) == "SIGNER_MANIFEST"

    @pytest.mark.parametrize("spoil", [lambda data: data + b"x", lambda data: data[:-1], lambda data: b""])
    def test_longer_shorter_or_empty(self, line: ReleaseLine, signer: Signer, spoil: Callable[[bytes], bytes]) -> None:
        manifest = line.bundle(PROFILES[0])
        path = self.member(line, manifest, "golden_input.npy")
        path.write_bytes(spoil(path.read_bytes()))
        assert refused(signer, approved(line, manifest)) == "SIGNER_MANIFEST"

    def test_a_link_or_a_pipe_in_the_place_of_a_member(self, line: ReleaseLine, signer: Signer, tmp_path: Path) -> None:
        import os

        manifest = line.bundle(PROFILES[0])
        path = self.member(line, manifest, "golden_input.npy")
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        assert refused(signer, approved(line, manifest)) == "SIGNER_MANIFEST"
        path.unlink()
        os.mkfifo(path)
        assert refused(signer, approved(line, manifest)) == "SIGNER_MANIFEST"

    def test_chunk_digests_that_are_not_those_of_the_bytes(self, line: ReleaseLine, signer: Signer) -> None:
        manifest = json.loads(line.bundle(PROFILES[0]))
        manifest["members"]["model.qdq_cpu.onnx"]["chunks"][0] = "0" * 64
        data = canonical_json(manifest)
        line.put(data)
        assert refused(signer, approved(line, data)) == "SIGNER_MANIFEST"


class TestProvenance:
    def test_by_another_key(self, line: ReleaseLine, signer: Signer) -> None:
        assert refused(signer, approved(line, line.bundle(PROFILES[0], builder=other_key(line)))) == "SIGNER_PROVENANCE"

    @pytest.mark.parametrize(
        "changed",
        [
            {"limits": {"memory_bytes": 1 << 40, "latency_p95_us": 10**9}},
            {"security_epoch": 9},
            {"model_version": "model:small/2"},
            {"tolerance": {"max_abs": 1e9, "top1_agreement": 0.0}},
            {"evaluation": {"accuracy": 1.0, "accuracy_fp32": 1.0, "samples": 10**6}},
            {"a_field_of_tomorrow": True},
        ],
    )
    def test_any_field_of_the_manifest_changed_after_the_builder(
        self, line: ReleaseLine, signer: Signer, changed: dict[str, object]
    ) -> None:
        data = line.resealed(line.bundle(PROFILES[0]), **changed)
        assert refused(signer, approved(line, data)) == "SIGNER_PROVENANCE"

    def test_of_another_build_of_the_same_builder(self, line: ReleaseLine, signer: Signer) -> None:
        first, second = (json.loads(line.bundle(PROFILES[0], number)) for number in (1, 2))
        swapped = {**first["members"], PROVENANCE: second["members"][PROVENANCE]}
        data = line.resealed(canonical_json(first), members=swapped)
        assert refused(signer, approved(line, data)) == "SIGNER_PROVENANCE"

    def test_a_member_of_the_attackers_own(self, line: ReleaseLine, signer: Signer) -> None:
        manifest = json.loads(line.bundle(PROFILES[0]))
        evil = b"not the builder's model"
        entry = {"sha256": line.put(evil), "length": len(evil), "chunks": [sha256_hex(evil)]}
        data = line.resealed(canonical_json(manifest), members={**manifest["members"], "model.qdq_cpu.onnx": entry})
        assert refused(signer, approved(line, data)) == "SIGNER_PROVENANCE"


class TestModelSignature:
    def signed_by(self, line: ReleaseLine, pem: bytes, digest: str) -> bytes:
        """A bundle whose builder put in a model.sig made by `pem` over `digest`: what a fooled builder would make."""
        from dataclasses import replace

        from control_plane.build.package import package

        order = line.order(PROFILES[0])
        signature = model_signature.sign(pem, {"model.onnx": digest})
        packed = package(
            replace(order, source=replace(order.source, signature=signature)), SigningKey.from_pem(line.site.read("build/keys/builder.pem"))
        )
        for data in [packed.manifest, *packed.blobs.values()]:
            line.put(data)
        return packed.manifest

    def test_by_a_key_that_is_not_pinned(self, line: ReleaseLine, signer: Signer) -> None:
        manifest = self.signed_by(line, key_pair()[0], line.registered().registration.model)
        assert refused(signer, approved(line, manifest)) == "SIGNER_MODEL_SIGNATURE"

    def test_over_another_model(self, line: ReleaseLine, signer: Signer) -> None:
        manifest = self.signed_by(line, line.site.read("trainer/model-signing.pem"), "0" * 64)
        assert refused(signer, approved(line, manifest)) == "SIGNER_MODEL_SIGNATURE"
        assert MODEL_SIGNATURE in json.loads(manifest)["members"]


def test_a_path_is_never_signed_twice_with_other_content(line: ReleaseLine, signer: Signer) -> None:
    signer.answer(line.request(profiles=ONE), NOW)
    other = line.bundle(PROFILES[0], latency_us=6000)
    assert refused(signer, approved(line, other)) == "SIGNER_VERSION"
    restarted = make_signer(line.config())
    assert refused(restarted, approved(line, other)) == "SIGNER_VERSION"


def test_not_even_when_the_published_repository_was_set_back(line: ReleaseLine, signer: Signer) -> None:
    before = {path: path.read_bytes() for path in line.site.image.iterdir()}
    signer.answer(line.request(profiles=ONE), NOW)
    for path in line.site.image.iterdir():
        path.unlink()
    for path, data in before.items():
        path.write_bytes(data)
    restored = make_signer(line.config())
    assert refused(restored, approved(line, line.bundle(PROFILES[0], latency_us=6000))) == "SIGNER_VERSION"
    answer = restored.answer(line.request(2, ONE), NOW)
    assert answer.versions["timestamp"] == 3, "a number that was issued before comes never again"


@pytest.mark.parametrize("broken", ["timestamp.json", "1.snapshot.json", "1.root.json", f"1.profile-{PROFILES[0]}.json"])
def test_a_repository_that_is_not_whole_is_named_and_nothing_is_signed(line: ReleaseLine, signer: Signer, broken: str) -> None:
    request = line.request(profiles=ONE)
    whole = (line.site.image / broken).read_bytes()
    for spoilt in (whole[:-5], b"", (line.site.image / "1.targets.json").read_bytes() if "profile" not in broken else b"[]"):
        (line.site.image / broken).write_bytes(spoilt)
        with pytest.raises(SkerryError) as refusal:
            signer.answer(request, NOW)
        assert (refusal.value.code, broken in refusal.value.thing) == ("SIGNER_REPOSITORY", True)
    (line.site.image / broken).write_bytes(whole)
    assert signer.answer(request, NOW).versions["snapshot"] == 2


def test_a_spoilt_memory_is_not_taken_for_an_empty_one(line: ReleaseLine, signer: Signer) -> None:
    signer.answer(line.request(profiles=ONE), NOW)
    record = line.config().state_dir / "signer.json"
    for spoilt in (b"", b"{}", b'{"schema":2}', b"[]"):
        record.write_bytes(spoilt)
        with pytest.raises(SkerryError) as refusal:
            make_signer(line.config())
        assert refusal.value.code == "SIGNER_REPOSITORY"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"{", b'{"op":"sign_manifest"}', b'{"op":["renew"]}', b'{}', b'{"op":"sign_release"}', b'\xff', b"[" * 100_000,
        b'{"op":"renew","op":"status"}', b'{"op":"sign_release","release":{"name":"../x","number":1,"manifests":{}},"approval":{}}',
        b'{"op":"sign_release","release":{"name":"x","number":1,"manifests":{"a":"../../etc/shadow"}},"approval":{}}',
    ],
)  # fmt: skip
def test_requests_of_no_known_form_are_refused(data: bytes) -> None:
    with pytest.raises(SkerryError) as refusal:
        parse(data)
    assert refusal.value.code == "SIGNER_REQUEST"


def test_renewal_signs_the_same_content_again_and_only_what_is_due(line: ReleaseLine, signer: Signer) -> None:
    signer.answer(line.request(profiles=ONE), NOW)
    targets = dict(signer.publisher.repository.role(f"profile-{PROFILES[0]}").targets)
    assert signer.publisher.renew(later(hours=11)) == []
    assert signer.publisher.renew(later(hours=13)) == ["timestamp"]
    assert signer.answer(KeysStatus(), NOW).versions["snapshot"] == 2
    answer = signer.answer(Renew(), later(days=16))
    assert answer.versions["snapshot"] == 3
    assert answer.versions[f"profile-{PROFILES[0]}"] == 3
    assert answer.expires_utc[f"profile-{PROFILES[0]}"] == later(days=46).isoformat()
    assert signer.publisher.repository.role(f"profile-{PROFILES[0]}").targets == targets
    assert signer.publisher.next_renewal() == later(days=16, hours=12)
