"""Large tensors through the front: what comes back is what was sent, and their memory is kept for the next request."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest

from edge_agent.inference.oip import open_inference_pb2 as pb
from tests.integration.oip_process import Site, site
from tests.integration.proc_stat import faults
from tests.simulators.bundles import write_slot

SHAPE = (1, 3, 224, 224)
DATA = np.random.default_rng(2).random(SHAPE, np.float32).tobytes()
PAGES = len(DATA) // 4096
WAIT_S = 30.0
WARM_UP, REQUESTS = 10, 30
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("oip")
    golden = np.frombuffer(DATA, np.float32).reshape(SHAPE)
    tensors = {"input": {"name": "x", "dtype": "f32", "shape": SHAPE}, "output": {"name": "y", "dtype": "f32", "shape": SHAPE}}
    with site(folder, write_slot(folder / "slots", "fake", "model.json", b'{"faults": []}', (golden, golden), dict(tensors))) as started:
        yield started


@pytest.fixture
def by_rest(here: Site) -> Iterator[Callable[[], bytes]]:
    connection = http.client.HTTPConnection(here.rest, timeout=WAIT_S)

    def ask() -> bytes:
        connection.request("POST", "/v2/models/tiny/infer", DATA, {"Inference-Header-Content-Length": "0"})
        answer = connection.getresponse()
        return answer.read()[int(answer.headers["Inference-Header-Content-Length"]) :]

    yield ask
    connection.close()


@pytest.fixture
def by_grpc(here: Site) -> Iterator[Callable[[], bytes]]:
    request = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[DATA])
    request.inputs.add(name="x", datatype="FP32", shape=SHAPE)
    with grpc.insecure_channel(here.grpc, [("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(METHOD, request.SerializeToString, pb.ModelInferResponse.FromString)
        yield lambda: bytes(call(request, timeout=WAIT_S).raw_output_contents[0])


@pytest.mark.parametrize("way", ["by_rest", "by_grpc"])
def test_a_large_tensor_comes_back_and_its_memory_is_kept(here: Site, way: str, request: pytest.FixtureRequest) -> None:
    ask: Callable[[], bytes] = request.getfixturevalue(way)
    assert all(ask() == DATA for _ in range(WARM_UP))
    before = faults(here.pid())
    for _ in range(REQUESTS):
        ask()
    assert faults(here.pid()) - before < REQUESTS * PAGES / 4, "pages were given back and faulted in again"
