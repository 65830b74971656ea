"""skerry-build as a process, against a build desk over mutual TLS and with the device's worker: from a registered model to a
bundle that the signer signs; each refusal comes back as the job's result, and an ill control plane is waited for.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.canonical import sha256_hex
from contracts.manifest import GOLDEN_INPUT, GOLDEN_OUTPUT, ML_BOM, PROVENANCE, SBOM, Manifest
from contracts.release import BuildJob, BuildResult, SignRelease
from control_plane.signer.program import make_signer
from signatures import provenance
from signatures.bundle import check_bundle
from signatures.model_signature import pinned
from tests.simulators.build_desk import Desk, serve
from tests.simulators.release_line import ReleaseLine
from tests.simulators.small_line import LABELS, Registered, npz, register, small_data, small_model
from tests.unit.test_model_signature import key_pair

PROFILES = ("x86-cpu-avx2", "x86-cpu-vnni")
DEADLINE_S = 60


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> ReleaseLine:
    return ReleaseLine.make(tmp_path_factory.mktemp("build"), now=datetime.now(timezone.utc))


@contextmanager
def at_work(line: ReleaseLine, desk: Desk, **changed: Any) -> Iterator[subprocess.Popen[str]]:
    """The builder, asking `desk`; afterwards it was ended by SIGTERM, cleanly."""
    site = line.site.folder
    keys = site / "control/keys"
    with serve(desk, keys / "server.crt", keys / "server.key", site / "broker/services-ca.crt") as url:
        values = {
            "state_dir": site.parent / "build-state", "control_url": url, "certificate": site / "build/keys/svc-build-1.crt",
            "key": site / "build/keys/svc-build-1.key", "server_ca": site / "public/site-ca.crt", "public_dir": site / "public",
            "builder_key": site / "build/keys/builder.pem", "poll_s": 0.05, **changed,
        }  # fmt: skip
        config = site.parent / "build.toml"
        config.write_text("\n".join(f"{name} = {json.dumps(value, default=str)}" for name, value in values.items()))
        program = subprocess.Popen(
            [sys.executable, "-m", "control_plane.build", "--config", str(config)], stderr=subprocess.PIPE, text=True
        )
        try:
            yield program
            program.send_signal(signal.SIGTERM)
            assert program.wait(DEADLINE_S) == 0
        finally:
            program.kill()
            program.communicate()


def build(line: ReleaseLine, job: BuildJob, blobs: dict[str, bytes], **changed: Any) -> tuple[BuildResult, Desk]:
    desk = Desk([job], dict(blobs), **changed)
    with at_work(line, desk):
        assert desk.answered.wait(DEADLINE_S), "no result"
    return desk.results[job.id], desk


def registered(line: ReleaseLine, **changed: Any) -> Registered:
    return register(line.site.read("trainer/model-signing.pem"), **changed)


@pytest.fixture(scope="module")
def built(line: ReleaseLine) -> tuple[BuildResult, Desk]:
    """v2 of the small model, built for two profiles beside an incumbent and a thing that is no model; the desk is ill at first."""
    source = registered(line)
    incumbent, no_model = small_model(seed=8), b"no model"
    job = source.job(PROFILES, number=2, incumbents={"model:small/0": sha256_hex(incumbent), "model:small/9": sha256_hex(no_model)})
    blobs = {**source.blobs, sha256_hex(incumbent): incumbent, sha256_hex(no_model): no_model}
    return build(line, job, blobs, ill=2)


def members(desk: Desk, result: BuildResult, profile: str = PROFILES[0]) -> tuple[Manifest, dict[str, bytes]]:
    manifest = Manifest.model_validate_json(desk.blobs[result.manifests[profile]])
    return manifest, {name: desk.blobs[member.sha256] for name, member in manifest.members.items()}


def test_a_bundle_per_profile_with_everything_measured(built: tuple[BuildResult, Desk]) -> None:
    result, desk = built
    assert (result.code, set(result.manifests), desk.callers) == ("", set(PROFILES), {"svc-build-1"})
    manifest, files = members(desk, result)
    assert (manifest.target_path, manifest.model_version, manifest.run) == (
        "bundles/x86-cpu-avx2/small-2.json",
        "model:small/1",
        "run:0123",
    )
    measured = manifest.evaluation
    assert measured.samples == 150
    assert measured.accuracy_low is not None
    assert measured.accuracy_high is not None
    assert measured.accuracy_low <= measured.accuracy <= measured.accuracy_high
    assert set(measured.expected_agreement) == {"model:small/0"}, "what cannot run on these tensors is left out"
    assert 0.3 < measured.expected_agreement["model:small/0"] <= 1
    assert manifest.labels == tuple(LABELS)
    assert manifest.limits.memory_bytes >= 192 << 20
    golden_input, golden_output = (np.load(io.BytesIO(files[name]), allow_pickle=False) for name in (GOLDEN_INPUT, GOLDEN_OUTPUT))
    assert (golden_input.shape, golden_output.shape) == ((16, 1, 8, 8), (16, 3))
    assert np.allclose(golden_output.sum(axis=1), 1, atol=1e-4)
    assert files["model.qdq_cpu.onnx"] == members(desk, result, PROFILES[1])[1]["model.qdq_cpu.onnx"], "one form, quantized once"


def test_its_papers_are_what_signer_and_devices_ask_for(line: ReleaseLine, built: tuple[BuildResult, Desk]) -> None:
    result, desk = built
    manifest, files = members(desk, result)
    digests = {name: member.sha256 for name, member in manifest.members.items()}
    check_bundle(digests, files["model.sig"], files[PROVENANCE], pinned(line.site.read("public/model-signing.pub.pem").decode()))
    told = provenance.read_authentic(files[PROVENANCE])
    assert set(told.materials) == {"model.onnx", "calibration.npz", "held_out.npz", "processing.json", "feature_schema.json"}
    assert told.parameters["model_version"] == "model:small/1"
    assert told.internal["quantization"]["form"] == "qdq_cpu"
    bom = json.loads(files[ML_BOM])
    assert (bom["specVersion"], bom["components"][0]["type"]) == ("1.6", "machine-learning-model")
    assert {part["slice"] for part in bom["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]} >= {
        "class 0",
        "class 2",
    }
    assert "onnxruntime" in {part["name"] for part in json.loads(files[SBOM])["components"]}


def test_the_signer_signs_what_the_builder_built(line: ReleaseLine, built: tuple[BuildResult, Desk]) -> None:
    result, desk = built
    for data in desk.blobs.values():
        line.put(data)
    release = line.release({profile: desk.blobs[digest] for profile, digest in result.manifests.items()}, 2)
    signer = make_signer(line.config())
    answer = signer.answer(SignRelease(release=release, approval=line.approve(release)), datetime.now(timezone.utc))
    assert answer.versions["timestamp"] == 2


def test_a_model_of_an_unknown_key_comes_back_with_its_code(line: ReleaseLine) -> None:
    forged = register(key_pair()[0])
    result, desk = build(line, forged.job(PROFILES), forged.blobs)
    assert (result.code, result.manifests) == ("BUILD_MODEL_SIGNATURE", {})
    assert len(desk.blobs) == len(forged.blobs), "nothing was uploaded"


def test_a_blob_with_other_bytes_is_refused(line: ReleaseLine) -> None:
    source = registered(line)
    result, _ = build(line, source.job(PROFILES), {**source.blobs, source.registration.calibration: b"other bytes"})
    assert (result.code, "other bytes" in result.detail) == ("BUILD_SOURCE", True)


def test_accuracy_lost_by_a_useless_calibration_is_refused(line: ReleaseLine) -> None:
    x, _ = small_data(24, seed=3)
    source = registered(line, calibration=npz(x=x * np.float32(1e-3)))  # ranges a thousand times too small: everything saturates
    result, _ = build(line, source.job(PROFILES), source.blobs)
    assert (result.code, "95 %" in result.detail) == ("BUILD_ACCURACY", True)


def test_sigterm_in_the_middle_of_a_build_leaves_the_job_to_the_next_start(line: ReleaseLine) -> None:
    source = registered(line)
    desk = Desk([source.job(PROFILES)], dict(source.blobs))
    with at_work(line, desk) as program:
        assert program.stderr is not None
        assert any("build_source_verified" in event for event in program.stderr)
    assert desk.results == {}
    with at_work(line, desk):
        assert desk.answered.wait(DEADLINE_S)
    assert desk.results[desk.jobs[0].id].code == ""


def test_a_result_that_is_refused_is_given_up_with_the_reason_not_repeated_for_ever(line: ReleaseLine) -> None:
    source = registered(line)
    result, _ = build(line, source.job(("toaster",)), source.blobs, refuse_results="BUILD_SOURCE")
    assert result.code == "BUILD_SOURCE"
    assert result.manifests == {}


@pytest.mark.parametrize("wrong", ["builder_key", "key", "server_ca"])
def test_without_a_key_in_order_it_ends_and_says_which_file(line: ReleaseLine, tmp_path: Path, wrong: str) -> None:
    site = line.site.folder
    values = {
        "control_url": "https://localhost:1", "certificate": site / "build/keys/svc-build-1.crt",
        "key": site / "build/keys/svc-build-1.key", "server_ca": site / "public/site-ca.crt", "public_dir": site / "public",
        "builder_key": site / "build/keys/builder.pem",
        wrong: tmp_path / "absent.pem",
    }  # fmt: skip
    config = tmp_path / "build.toml"
    config.write_text("\n".join(f"{name} = {json.dumps(value, default=str)}" for name, value in values.items()))
    command = [sys.executable, "-m", "control_plane.build", "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (ended.returncode, "CONFIG_INVALID" in ended.stderr, "absent.pem" in ended.stderr) == (1, True, True)
