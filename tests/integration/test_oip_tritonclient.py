"""Unmodified tritonclient, HTTP and gRPC, against the real front before real workers: a fake backend and ONNX Runtime."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, shared_memory

from edge_agent.inference.worker.backends import fake
from tests.integration.oip_process import Site, Slot, site
from tests.simulators.bundles import INPUT_SHAPE, OUTPUT_SHAPE, fake_slot, golden_inputs
from tests.simulators.onnx_bundles import onnx_slot, weights

VALUES = golden_inputs(1)
EXPECTED = fake.expected(VALUES, OUTPUT_SHAPE)
LABELS = ("bolt", "nut", "Ger\u00e4t: 2", "none")
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("oip")
    with site(folder, fake_slot(folder / "slots"), {"shared_memory_uids": [os.getuid()]}) as started:
        started.load(linear(folder / "slots"))
        yield started


def linear(slots: Path) -> Slot:
    return onnx_slot(slots, name="linear", number=3, labels=LABELS)


@pytest.fixture(params=["http", "grpc", "grpc over a socket"])
def client(here: Site, request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "http":
        made = triton_http.InferenceServerClient(here.rest, network_timeout=TIMEOUT_S, connection_timeout=TIMEOUT_S)
    else:
        made = triton_grpc.InferenceServerClient(here.grpc if request.param == "grpc" else here.grpc_socket)
    made.form = triton_http if request.param == "http" else triton_grpc
    yield made
    made.close()


def tensor(client: Any, values: Any = VALUES, datatype: str = "FP32") -> Any:
    input_ = client.form.InferInput("x", list(values.shape), datatype)
    input_.set_data_from_numpy(values)
    return input_


def test_a_server_is_described(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("linear", "3")
    assert not client.is_model_ready("linear", "4")
    assert not client.is_model_ready("other")
    as_dict = {} if client.form is triton_http else {"as_json": True}
    assert client.get_server_metadata(**as_dict)["name"] == "skerry"
    metadata = client.get_model_metadata("linear", **as_dict)
    assert metadata["versions"] == ["3"]
    assert metadata["inputs"][0]["datatype"] == "FP32"
    assert [int(size) for size in metadata["inputs"][0]["shape"]] == list(INPUT_SHAPE)
    config = client.get_model_config("linear", **as_dict)
    assert config.get("config", config)["input"][0]["data_type"] == "TYPE_FP32"


def test_answers_are_the_models(client: Any) -> None:
    answer = client.infer("tiny", [tensor(client)], request_id="seven")
    assert np.allclose(answer.as_numpy("logits"), EXPECTED, atol=1e-4)
    answer = client.infer("linear", [tensor(client)], "3")
    assert np.allclose(answer.as_numpy("logits"), VALUES.reshape(1, -1) @ weights(), atol=1e-4)


def test_the_largest_classes_are_named(client: Any) -> None:
    output = client.form.InferRequestedOutput("logits", class_count=2)
    (first, second) = client.infer("tiny", [tensor(client)], outputs=[output]).as_numpy("logits")
    assert [int(first.split(b":")[1]), int(second.split(b":")[1])] == list(np.argsort(-EXPECTED.ravel())[:2])


def test_classes_have_the_labels_of_the_bundle(client: Any) -> None:
    output = client.form.InferRequestedOutput("logits", class_count=4)
    answered = client.infer("linear", [tensor(client)], outputs=[output]).as_numpy("logits")
    expected = (VALUES.reshape(1, -1) @ weights()).ravel()
    named = [text.decode().split(":", 2) for text in answered]
    assert [(int(index), label) for _, index, label in named] == [(index, LABELS[index]) for index in np.argsort(-expected)]
    assert np.allclose([float(value) for value, *_ in named], -np.sort(-expected), atol=1e-4)


def test_json_tensors_are_answered_in_json(here: Site) -> None:
    client = triton_http.InferenceServerClient(here.rest)
    input_ = triton_http.InferInput("x", list(INPUT_SHAPE), "FP32")
    input_.set_data_from_numpy(VALUES, binary_data=False)
    answer = client.infer("tiny", [input_], outputs=[triton_http.InferRequestedOutput("logits", binary_data=False)])
    assert np.allclose(answer.get_response()["outputs"][0]["data"], EXPECTED.ravel(), atol=1e-4)
    client.close()


def test_bf16_is_taken_where_floats_are_wanted(here: Site) -> None:
    client = triton_grpc.InferenceServerClient(here.grpc)
    input_ = triton_grpc.InferInput("x", list(INPUT_SHAPE), "BF16")
    input_.set_data_from_numpy(VALUES.astype(ml_dtypes.bfloat16))
    assert np.allclose(client.infer("tiny", [input_]).as_numpy("logits"), EXPECTED, atol=0.5)
    client.close()


def test_requests_are_counted(client: Any) -> None:
    as_dict = {} if client.form is triton_http else {"as_json": True}

    def counted() -> dict[str, int]:
        (stats,) = client.get_inference_statistics("linear", **as_dict)["model_stats"]
        return {name: int(stats["inference_stats"][name].get("count", 0)) for name in ("success", "fail", "queue", "compute_infer")}

    before = counted()
    client.infer("linear", [tensor(client)])
    with pytest.raises(InferenceServerException, match="OIP_TENSOR"):
        client.infer("linear", [tensor(client, VALUES.astype(np.float64), "FP64")])
    assert {name: count - before[name] for name, count in counted().items()} == dict.fromkeys(before, 1)


def test_what_is_wrong_is_refused_with_its_code(client: Any) -> None:
    for call, code in (
        (lambda: client.get_model_metadata("other"), "ARENA_MODEL"),
        (lambda: client.infer("tiny", [tensor(client)], "9"), "ARENA_MODEL"),
        (lambda: client.infer("tiny", [tensor(client, VALUES[:, :, :4])]), "OIP_TENSOR"),
        (lambda: client.infer("tiny", [tensor(client)], sequence_id=5), "OIP_PARAMETER"),
        (lambda: client.load_model("tiny", config="{}"), "OIP_PARAMETER"),
        (lambda: client.load_model("elsewhere"), "OIP_NOT_ADMITTED"),
        (lambda: client.unload_model("tiny"), "OIP_IN_USE"),
    ):
        with pytest.raises(InferenceServerException, match=code):
            call()  # type: ignore[no-untyped-call]


def test_admitted_slots_are_listed_loaded_and_unloaded(here: Site, client: Any) -> None:
    as_dict = {} if client.form is triton_http else {"as_json": True}
    if not any(manifest.name == "spare" for manifest in map(here.slots.manifest, here.slots.digests())):
        fake_slot(here.live[1].parent, name="spare", number=2)

    def states() -> dict[str, str]:
        index = client.get_model_repository_index(**as_dict)
        return {one["name"]: one["state"] for one in (index if client.form is triton_http else index["models"])}

    assert states() == {"tiny": "READY", "linear": "READY", "spare": "UNAVAILABLE"}
    client.load_model("spare")
    assert states()["spare"] == "READY"
    assert client.is_model_ready("spare", "2")
    client.infer("spare", [tensor(client)])
    client.unload_model("spare")
    assert states()["spare"] == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="ARENA_MODEL"):
        client.infer("spare", [tensor(client)])


@pytest.fixture
def region() -> Iterator[Any]:
    made = shared_memory.create_shared_memory_region("tensors", f"/skerry-{uuid.uuid4().hex}", VALUES.nbytes + 16)
    shared_memory.set_shared_memory_region(made, [VALUES])
    yield made
    shared_memory.destroy_shared_memory_region(made)


def test_tensors_in_shared_memory(here: Site, region: Any) -> None:
    client = triton_grpc.InferenceServerClient(here.grpc_socket)
    client.register_system_shared_memory("tensors", region._shm_key, VALUES.nbytes + 16)
    assert set(client.get_system_shared_memory_status(as_json=True)["regions"]) == {"tensors"}
    input_, output = triton_grpc.InferInput("x", list(INPUT_SHAPE), "FP32"), triton_grpc.InferRequestedOutput("logits")
    input_.set_shared_memory("tensors", VALUES.nbytes)
    output.set_shared_memory("tensors", 16, VALUES.nbytes)
    client.infer("tiny", [input_], outputs=[output])
    assert np.allclose(shared_memory.get_contents_as_numpy(region, np.float32, [1, 4], offset=VALUES.nbytes), EXPECTED, atol=1e-4)
    output.set_shared_memory("tensors", 16, VALUES.nbytes + 1)
    with pytest.raises(InferenceServerException, match="OIP_REGION"):
        client.infer("tiny", [input_], outputs=[output])
    client.unregister_system_shared_memory("tensors")
    with pytest.raises(InferenceServerException, match="OIP_REGION_UNKNOWN"):
        client.infer("tiny", [input_])
    client.close()


def test_shared_memory_is_not_served_over_tcp(here: Site, region: Any) -> None:
    for client in (triton_grpc.InferenceServerClient(here.grpc), triton_http.InferenceServerClient(here.rest)):
        with pytest.raises(InferenceServerException, match="OIP_REGION_OWNER"):
            client.register_system_shared_memory("tensors", region._shm_key, 16)
        client.close()


def test_programs_that_begin_by_unregistering_all_go_on_and_memory_of_a_gpu_is_refused(here: Site) -> None:
    """Triton's own examples begin so."""
    client = triton_grpc.InferenceServerClient(here.grpc_socket)
    rest = triton_http.InferenceServerClient(here.rest)
    for one in (client, rest):
        one.unregister_cuda_shared_memory()
        with pytest.raises(InferenceServerException, match="OIP_UNSUPPORTED"):
            one.register_cuda_shared_memory("tensors", base64.b64encode(bytes(64)), 0, 16)
        with pytest.raises(InferenceServerException, match="OIP_UNSUPPORTED"):
            one.unregister_cuda_shared_memory("tensors")
    assert client.get_cuda_shared_memory_status(as_json=True) == {}
    assert rest.get_cuda_shared_memory_status() == []
    for one in (client, rest):
        one.close()
