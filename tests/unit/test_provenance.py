"""SLSA provenance by the builder's key, and what a bundle's papers prove together."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from contracts.canonical import sha256_hex
from contracts.errors import TrustError
from contracts.manifest import MODEL_SIGNATURE, PROVENANCE
from signatures import dsse, provenance
from signatures.bundle import check_bundle
from signatures.ed25519 import SigningKey
from signatures.model_signature import STATEMENT_TYPE, pinned
from signatures.provenance import Provenance
from tests.simulators.release_line import PROFILES, ReleaseLine

SUBJECT = Provenance(subjects={"model.onnx": "1" * 64}, materials={"model.onnx": "2" * 64}, parameters={"run": "run:1"})


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> ReleaseLine:
    return ReleaseLine.make(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="module")
def builder(line: ReleaseLine) -> SigningKey:
    return SigningKey.from_pem(line.site.read("build/keys/builder.pem"))


def test_what_the_builder_signs_is_read_back_whole(builder: SigningKey) -> None:
    signed = provenance.sign(SUBJECT, builder)
    assert provenance.verify(signed, {builder.key_id: builder.public}) == SUBJECT == provenance.read_authentic(signed)


def test_another_key_is_refused_also_under_the_builders_name(line: ReleaseLine, builder: SigningKey) -> None:
    other = SigningKey.from_pem(line.site.read("approver/approver.pem"))
    forged = provenance.sign(SUBJECT, other)
    with pytest.raises(ValueError, match="not pinned"):
        provenance.verify(forged, {builder.key_id: builder.public})
    with pytest.raises(ValueError, match="not by the pinned key"):
        provenance.verify(forged, {other.key_id: builder.public})


def test_another_predicate_by_the_builder_is_no_provenance(builder: SigningKey) -> None:
    payload = json.dumps({"_type": STATEMENT_TYPE, "predicateType": "else", "subject": []}).encode()
    envelope = dsse.wrap(payload, builder.key_id, lambda signed: builder.sign(b"", signed))
    with pytest.raises(ValueError, match="not SLSA"):
        provenance.verify(json.dumps(envelope).encode(), {builder.key_id: builder.public})


def test_a_manifest_without_its_provenance_entry_has_one_digest(line: ReleaseLine) -> None:
    manifest = json.loads(line.bundle(PROFILES[0]))
    papers = provenance.read_authentic(line.blob(manifest["members"][PROVENANCE]["sha256"]).read_bytes())
    assert papers.subjects[provenance.MANIFEST_SUBJECT] == provenance.manifest_body_sha256(manifest)
    changed = {**manifest, "limits": {"memory_bytes": 1, "latency_p95_us": 1}}
    assert papers.subjects[provenance.MANIFEST_SUBJECT] != provenance.manifest_body_sha256(changed)


@pytest.fixture(scope="module")
def papers(line: ReleaseLine) -> tuple[dict[str, str], bytes, bytes, dict[str, str]]:
    members = {name: entry["sha256"] for name, entry in json.loads(line.bundle(PROFILES[0]))["members"].items()}
    model_sig, made = (line.blob(members[name]).read_bytes() for name in (MODEL_SIGNATURE, PROVENANCE))
    return members, model_sig, made, pinned(line.site.read("public/model-signing.pub.pem").decode())


Papers = tuple[dict[str, str], bytes, bytes, dict[str, str]]


def refused(members: dict[str, str], model_sig: bytes, made: bytes, keys: dict[str, str]) -> str:
    with pytest.raises(TrustError) as refusal:
        check_bundle(members, model_sig, made, keys)
    assert refusal.value.code == "BUNDLE_MODEL_SIGNATURE"
    return str(refusal.value)


def test_a_built_bundles_papers_hold_together(papers: Papers) -> None:
    check_bundle(*papers)
    assert papers[0]["model.sig"] == sha256_hex(papers[1])


def test_a_member_that_the_builder_did_not_make_is_refused(papers: Papers) -> None:
    members, model_sig, made, keys = papers
    fewer = {name: digest for name, digest in members.items() if name != "golden_input.npy"}
    assert "model.qdq_cpu.onnx" in refused({**members, "model.qdq_cpu.onnx": "0" * 64}, model_sig, made, keys)
    assert "extra.bin" in refused({**members, "extra.bin": "0" * 64}, model_sig, made, keys)
    assert "golden_input.npy" in refused(fewer, model_sig, made, keys)


def test_a_model_signature_for_another_fp32_model_is_refused(papers: Papers, builder: SigningKey) -> None:
    members, model_sig, made, keys = papers
    told = provenance.read_authentic(made)
    other = provenance.sign(replace(told, materials={**told.materials, "model.onnx": "0" * 64}), builder)
    assert "model.onnx" in refused(members, model_sig, other, keys)
    nameless = provenance.sign(replace(told, materials={}), builder)
    assert "names no fp32 model" in refused(members, model_sig, nameless, keys)
    assert refused(members, model_sig, b"{}", keys)
    assert refused(members, model_sig, made, {})
