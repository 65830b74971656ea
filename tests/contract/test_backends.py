"""One suite for every backend of the worker; it runs under Python 3.8 too.

Both models answer alike: output k is the sum of every second input element from k on.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.inference.worker import backends
from edge_agent.inference.worker.backends import BackendError, fake
from edge_agent.inference.worker.selftest import self_test
from edge_agent.inference.worker.slot import Slot, open_slot
from edge_agent.inference.worker.start_error import StartError

# MatMul of x (1, 6) with a 6 x 2 matrix of alternating ones, opset 17: here as bytes, because the worker's environment has no onnx.
ONNX_MODEL = base64.b64decode(
    "CAg6gAEKEQoBeAoBdxIBeSIGTWF0TXVsEgRmb2xkKjsIBggCEAFCAXdKMAAAgD8AAAAAAAAAAAAAgD8AAIA/AAAAAAAAAAAAAIA/AACAPwAAAAAAAAAAAACA"
    "P1oTCgF4Eg4KDAgBEggKAggBCgIIBmITCgF5Eg4KDAgBEggKAggBCgIIAkIECgAQEQ=="
)
# The same with its matrix in weights.bin beside it.
OUTSIDE_MODEL = base64.b64decode(
    "CAg6aQoRCgF4CgF3EgF5IgZNYXRNdWwSBGZvbGQqJAgGCAIQAUIBd2oXCghsb2NhdGlvbhILd2VpZ2h0cy5iaW5wAVoTCgF4Eg4KDAgBEggKAggBCgIIBmITCgF5"
    "Eg4KDAgBEggKAggBCgIIAkIECgAQEQ=="
)
# The same, but the tensor says so in fields whose numbers have a bit too many: onnxruntime's protobuf drops it.
HIDDEN_MODEL = base64.b64decode(
    "CAhCBAoAEBE6cQoRCgF4CgF3EgF5IgZNYXRNdWwSBGZvbGRaEwoBeBIOCgwIARIICgIIAQoCCAZiEwoBeRIOCgwIARIICgIIAQoCCAIqLAgGCAIQAUIBd+qAgIAQ"
    "FwoIbG9jYXRpb24SC3dlaWdodHMuYmlu8ICAgBAB"
)
OUTSIDE_WEIGHTS = np.array([[1, 0], [0, 1]] * 3, np.float32).tobytes()
# A table of three ones, looked up at each input as an integer, and then the matrix: what is beyond the table is refused while it runs.
LOOK_UP_MODEL = base64.b64decode(
    "CAg6yQEKFwoBeBIBbiIEQ2FzdCoJCgJ0bxgHoAECChQKBG9uZXMKAW4SAWciBkdhdGhlcgoRCgFnCgF3EgF5IgZNYXRNdWwSBGZvbGQqOwgGCAIQAUIBd0owAACAPwAA"
    "AAAAAAAAAACAPwAAgD8AAAAAAAAAAAAAgD8AAIA/AAAAAAAAAAAAAIA/KhgIAxABQgRvbmVzSgwAAIA/AACAPwAAgD9aEwoBeBIOCgwIARIICgIIAQoCCAZiEwoBeRIO"
    "CgwIARIICgIIAQoCCAJCBAoAEBE="
)
FAKE_MODEL = json.dumps({"faults": []}).encode()
MODELS = {"onnxruntime": ("model.onnx", ONNX_MODEL), "fake": ("model.json", FAKE_MODEL)}
INPUTS = np.arange(18, dtype=np.float32).reshape(3, 6)
OUTPUTS = np.concatenate([fake.expected(one[None], (1, 2)) for one in INPUTS]).astype(np.float32)


def write_slot(folder: Path, backend: str, model: bytes = b"", **changes: Any) -> Slot:
    """A slot as the worker reads one. `changes` go into the manifest."""
    member, healthy = MODELS[backend]
    manifest: dict[str, Any] = {
        "input": {"name": "x", "dtype": "f32", "shape": [1, 6]},
        "output": {"name": "y", "dtype": "f32", "shape": [1, 2]},
        "variants": [{"member": member, "backend": backend}],
        "tolerance": {"max_abs": 1e-3, "top1_agreement": 1.0},
        "limits": {"memory_bytes": 1 << 30, "latency_p95_us": 100000},
    }
    manifest.update(changes)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / member).write_bytes(model or healthy)
    np.save(str(folder / "golden_input.npy"), INPUTS)
    np.save(str(folder / "golden_output.npy"), OUTPUTS)
    return open_slot(folder, 0)


@pytest.fixture(params=sorted(MODELS))
def slot(request: pytest.FixtureRequest, tmp_path: Path) -> Slot:
    return write_slot(tmp_path, request.param)


def test_versions_name_every_backend() -> None:
    versions = backends.versions()
    assert set(versions) == set(MODELS)
    assert all(len(version.split(".")) >= 2 for version in versions.values())


def test_a_bound_function_computes_in_place_and_again(slot: Slot) -> None:
    input_, output = np.zeros((1, 6), np.float32), np.full((1, 2), 99, np.float32)
    compute = backends.load(slot).bind(input_, output)
    for values in INPUTS:
        input_[...] = values
        compute()
        assert np.allclose(output, fake.expected(values, (1, 2)))


def test_two_bindings_do_not_share_memory(slot: Slot) -> None:
    session = backends.load(slot)
    buffers = [(np.full((1, 6), k, np.float32), np.zeros((1, 2), np.float32)) for k in (1, 2)]
    computes = [session.bind(input_, output) for input_, output in buffers]
    for compute in reversed(computes):
        compute()
    assert [float(output[0, 0]) for _, output in buffers] == [3, 6]


def test_a_healthy_model_passes_the_self_test_with_figures(slot: Slot) -> None:
    figures = self_test(slot, backends.load(slot))
    assert figures["golden"] == {"vectors": 3, "max_abs": 0.0, "top1_agreement": 1.0}
    assert figures["rss_bytes"] > 0
    assert 0 < figures["latency_p50_us"] <= figures["latency_p95_us"]


def test_a_file_that_is_no_model_is_refused(slot: Slot) -> None:
    slot.member.write_bytes(b"no model at all")
    with pytest.raises(StartError, match="WORKER_MODEL"):
        backends.load(slot)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"tolerance": {"max_abs": -1.0, "top1_agreement": 1.0}}, "BUNDLE_GOLDEN"),
        ({"limits": {"memory_bytes": 1, "latency_p95_us": 100000}}, "BUNDLE_LIMITS"),
        ({"limits": {"memory_bytes": 1 << 30, "latency_p95_us": 0}}, "BUNDLE_LIMITS"),
    ],
)
@pytest.mark.parametrize("backend", sorted(MODELS))
def test_broken_promises_are_vetoed_with_the_figures(tmp_path: Path, backend: str, changes: Any, code: str) -> None:
    slot = write_slot(tmp_path, backend, **changes)
    with pytest.raises(StartError) as refused:
        self_test(slot, backends.load(slot))
    assert refused.value.code == code
    assert refused.value.figures["golden"]["vectors"] == 3


@pytest.mark.parametrize("backend", sorted(MODELS))
def test_a_variants_own_tolerance_counts_before_the_manifests(tmp_path: Path, backend: str) -> None:
    never, always = ({"max_abs": limit, "top1_agreement": 0.0} for limit in (-1.0, 1.0))
    variant = {"member": MODELS[backend][0], "backend": backend}
    slot = write_slot(tmp_path, backend, variants=[{**variant, "tolerance": always}], tolerance=never)
    assert self_test(slot, backends.load(slot))["golden"]["max_abs"] < 1.0
    slot = write_slot(tmp_path, backend, variants=[{**variant, "tolerance": never}], tolerance=always)
    with pytest.raises(StartError, match="BUNDLE_GOLDEN"):
        self_test(slot, backends.load(slot))


def test_other_tensor_names_than_the_manifest_are_refused(tmp_path: Path) -> None:
    slot = write_slot(tmp_path, "onnxruntime", output={"name": "z", "dtype": "f32", "shape": [1, 2]})
    with pytest.raises(StartError, match="WORKER_MODEL"):
        backends.load(slot)


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    slot = write_slot(tmp_path, "fake", variants=[{"member": "model.json", "backend": "abacus"}])
    with pytest.raises(StartError, match="no backend 'abacus'"):
        backends.load(slot)


@pytest.mark.parametrize(
    ("fault", "code"),
    [({"do": "nan"}, "WORKER_NOT_FINITE"), ({"do": "wrong"}, "BUNDLE_GOLDEN"), ({"do": "refuse"}, "BUNDLE_SELF_TEST")],
)
def test_faults_on_demand_fail_the_self_test(tmp_path: Path, fault: dict[str, Any], code: str) -> None:
    slot = write_slot(tmp_path, "fake", json.dumps({"faults": [fault]}).encode())
    with pytest.raises(StartError) as refused:
        self_test(slot, backends.load(slot))
    assert refused.value.code == code


@pytest.mark.parametrize("shape", [(3, 5), (0, 6)])
def test_golden_vectors_that_do_not_fit_are_refused(slot: Slot, shape: Any) -> None:
    np.save(str(slot.folder / "golden_input.npy"), np.zeros(shape, np.float32))
    with pytest.raises(StartError, match="BUNDLE_GOLDEN"):
        self_test(slot, backends.load(slot))


def test_pickled_golden_vectors_are_refused(slot: Slot) -> None:
    np.save(str(slot.folder / "golden_input.npy"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StartError, match="BUNDLE_GOLDEN"):
        self_test(slot, backends.load(slot))


@pytest.mark.parametrize("model", [OUTSIDE_MODEL, HIDDEN_MODEL])
def test_a_model_that_reads_another_file_is_refused(tmp_path: Path, model: bytes) -> None:
    """onnxruntime itself would load it: the file is there."""
    (tmp_path / "weights.bin").write_bytes(OUTSIDE_WEIGHTS)
    with pytest.raises(StartError, match=r"outside the file|no field has such a number") as refused:
        backends.load(write_slot(tmp_path, "onnxruntime", model))
    assert refused.value.code == "WORKER_MODEL"


def test_a_model_is_onnx_whatever_its_file_is_called(tmp_path: Path) -> None:
    """onnxruntime would take model.ort for its own format, in which nobody has looked for other files."""
    (tmp_path / "model.ort").write_bytes(ONNX_MODEL)
    write_slot(tmp_path, "onnxruntime", variants=[{"member": "model.ort", "backend": "onnxruntime"}])
    slot = open_slot(tmp_path, 0)
    assert self_test(slot, backends.load(slot))["golden"]["max_abs"] == 0.0


def test_an_input_that_the_model_cannot_compute_is_refused_and_the_next_one_is_answered(tmp_path: Path) -> None:
    input_, output = np.zeros((1, 6), np.float32), np.zeros((1, 2), np.float32)
    compute = backends.load(write_slot(tmp_path, "onnxruntime", LOOK_UP_MODEL)).bind(input_, output)
    input_[...] = 9
    with pytest.raises(BackendError, match="out of"):
        compute()
    input_[...] = 1
    compute()
    assert output.tolist() == [[3, 3]]


@pytest.mark.parametrize(
    ("tensor", "spec"),
    [
        ("input", {"name": "x", "dtype": "f32", "shape": [1, 3]}),
        ("input", {"name": "x", "dtype": "i32", "shape": [1, 6]}),
        ("output", {"name": "y", "dtype": "f32", "shape": [1, 1000]}),
        ("output", {"name": "y", "dtype": "f16", "shape": [1, 2]}),
    ],
)
def test_other_shapes_or_types_than_the_manifest_are_refused(tmp_path: Path, tensor: str, spec: Any) -> None:
    changes: dict[str, Any] = {tensor: spec}
    slot = write_slot(tmp_path, "onnxruntime", **changes)
    for name, values in (("input", slot.input), ("output", slot.output)):
        np.save(str(tmp_path / f"golden_{name}.npy"), np.zeros((3, *values.shape[1:]), values.dtype))
    with pytest.raises(StartError) as refused:
        self_test(slot, backends.load(slot))
    assert refused.value.code == "BUNDLE_SELF_TEST"


@pytest.mark.parametrize("text", ["", "{}", '{"variants": []}', "[]", "7", "null", '{"variants": 3}'])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StartError, match="BUNDLE_SELF_TEST"):
        open_slot(tmp_path, 0)


DETECTOR = {
    "pre": [],
    "post": [{"op": "grid_boxes", "classes": ["part"], "rows": 1, "columns": 1}, {"op": "threshold", "score": 0.5}, {"op": "boxes"}],
}
# of the fake, output = input here: nothing, part, right, down, width, height
GRIDS = np.array([[0, 9, 0, 0, 0.5, 0.5], [0, 9, 0.1, 0, 0.5, 0.5], [9, 0, 0, 0, 0.5, 0.5]], np.float32)


def detector_slot(folder: Path, golden: Any, spec: bytes = b"") -> Slot:
    slot = write_slot(
        folder, "fake", input={"name": "x", "dtype": "f32", "shape": [1, 1, 2, 3]}, output={"name": "y", "dtype": "f32", "shape": [1, 6]},
        tolerance={"max_abs": 1.0, "top1_agreement": 0.0, "answer_agreement": 0.9},
    )  # fmt: skip
    np.save(str(folder / "golden_input.npy"), GRIDS.reshape(3, 1, 2, 3))
    np.save(str(folder / "golden_output.npy"), golden)
    (folder / "processing.json").write_bytes(spec or json.dumps(DETECTOR).encode())
    return slot


def test_a_detectors_boxes_are_held_against_the_golden_ones(tmp_path: Path) -> None:
    slot = detector_slot(tmp_path, GRIDS + np.float32(0.01))
    assert self_test(slot, backends.load(slot))["golden"]["answer_agreement"] == 1.0
    elsewhere = GRIDS.copy()
    elsewhere[1, 2] = -0.3  # within max_abs, and another box
    slot = detector_slot(tmp_path, elsewhere)
    with pytest.raises(StartError, match=r"answers agree on 0\.667") as refused:
        self_test(slot, backends.load(slot))
    assert refused.value.code == "BUNDLE_GOLDEN"


@pytest.mark.parametrize("spec", [b"{", b'{"pre": [], "post": [{"op": "enhance"}]}', b'{"pre": [], "post": [{"op": "top_k", "k": 9}]}'])
def test_a_detector_whose_boxes_nobody_can_read_does_not_start(tmp_path: Path, spec: bytes) -> None:
    slot = detector_slot(tmp_path, GRIDS, spec)
    with pytest.raises(StartError) as refused:
        self_test(slot, backends.load(slot))
    assert refused.value.code == "BUNDLE_PROCESSING"
