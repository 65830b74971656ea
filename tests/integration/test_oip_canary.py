"""A candidate that answers a share of the request ids: what unmodified tritonclient sees over HTTP, gRPC and gRPC on a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from edge_agent.inference.oip.canary import chosen
from tests.integration.oip_process import Site, Slot, site
from tests.simulators.bundles import INPUT_SHAPE, golden_inputs
from tests.simulators.onnx_bundles import onnx_slot, weights

SHARE = 0.25
VALUES = golden_inputs(1)
SEEDS = {"1": 3, "2": 4}  # version -> its model
IDS = [f"part-{number}" for number in range(40)]


def bundle(slots: Path, version: str) -> Slot:
    return onnx_slot(slots, SEEDS[version], number=int(version))


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Slot:
    return bundle(tmp_path_factory.mktemp("canary") / "slots", "2")


@pytest.fixture(scope="module")
def here(candidate: Slot) -> Iterator[Site]:
    slots = candidate[1].parent
    with site(slots.parent, bundle(slots, "1"), {"canary_share": SHARE}) as started:
        started.load(candidate)
        started.candidate = candidate[0]
        yield started


@pytest.fixture(params=["http", "grpc", "grpc over a socket"])
def client(here: Site, request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "http":
        made = triton_http.InferenceServerClient(here.rest)
    else:
        made = triton_grpc.InferenceServerClient(here.grpc if request.param == "grpc" else here.grpc_socket)
    yield made
    made.close()


def answered_by(client: Any, request_id: str = "", version: str = "") -> str:
    """The version that the answer names; its numbers are that version's."""
    form = triton_http if isinstance(client, triton_http.InferenceServerClient) else triton_grpc
    tensor = form.InferInput("x", list(INPUT_SHAPE), "FP32")
    tensor.set_data_from_numpy(VALUES)
    answer = client.infer("tiny", [tensor], version, request_id=request_id)
    told = answer.get_response()
    got, named = (told["model_version"], told.get("id", "")) if form is triton_http else (told.model_version, told.id)
    assert named == request_id
    assert np.allclose(answer.as_numpy("logits"), VALUES.reshape(1, -1) @ weights(SEEDS[got]), atol=1e-4)
    return str(got)


def test_the_ids_share_out_the_models_the_same_way_on_every_path(client: Any, candidate: Slot) -> None:
    wanted = {one: "2" if chosen(one, candidate[0], SHARE) else "1" for one in IDS}
    assert set(wanted.values()) == {"1", "2"}
    for _ in range(2):
        assert {one: answered_by(client, one) for one in IDS} == wanted


def test_without_an_id_or_with_a_version_nothing_is_shared_out(client: Any) -> None:
    assert {answered_by(client) for _ in range(10)} == {"1"}
    assert {answered_by(client, one, "1") for one in IDS} == {"1"}
    assert {answered_by(client, one, "2") for one in IDS} == {"2"}


def test_a_candidate_that_is_taken_away_leaves_nobody_without_an_answer(client: Any, here: Site, candidate: Slot) -> None:
    assert answered_by(client, version="2") == "2"  # a version that is not known is looked up at once
    assert "2" in {answered_by(client, one) for one in IDS}
    here.unload(candidate[0])
    assert {answered_by(client, one) for one in IDS} == {"1"}
    here.load(candidate)
