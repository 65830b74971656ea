"""A candidate that is broken or hostile, beside an incumbent that serves: each is refused with its code, and the incumbent goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from contracts.errors import SkerryError
from contracts.manifest import Manifest
from tests.integration.test_worker_host import attach, hosting, outcome, run
from tests.simulators.bundles import OUTPUT_SHAPE, fake_slot, golden_inputs, write_slot
from tests.simulators.onnx_bundles import onnx_model, weights


def changed(change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_model_from_string(onnx_model(weights()))
    change(model)
    return bytes(model.SerializeToString())


def huge_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Exfiltrate"


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "logits"


def divides_by_zero(model: onnx.ModelProto) -> None:
    """As integers, by themselves less themselves: nothing shows before it runs."""
    model.graph.node[1].output[0] = "sum"
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Sub", ["whole", "whole"], ["zero"]),
            helper.make_node("Div", ["whole", "zero"], ["share"]),
            helper.make_node("Cast", ["share"], ["logits"], to=TensorProto.FLOAT),
        ]
    )


def bundle(root: Path, model: bytes) -> tuple[str, Path, Manifest]:
    inputs = golden_inputs()
    outputs = np.zeros((len(inputs), *OUTPUT_SHAPE[1:]), np.float32)
    return write_slot(root, "onnxruntime", "model.onnx", model, (inputs, outputs), {"number": 2})


BAD = {
    "cut short": (onnx_model(weights())[:100], "WORKER_MODEL"),
    "another output": (onnx_model(np.ones((64, 9), np.float32)), "BUNDLE_SELF_TEST"),
    "not finite": (onnx_model(np.full((64, 4), np.nan, np.float32)), "WORKER_NOT_FINITE"),
    "weights of 2^60 numbers": (changed(huge_weights), "WORKER_MODEL"),
    "values in another file": (changed(outside), "WORKER_MODEL"),
    "unknown operator": (changed(unknown_operator), "WORKER_MODEL"),
    "a cycle": (changed(cycle), "WORKER_MODEL"),
    "cannot be computed": (changed(divides_by_zero), "BUNDLE_SELF_TEST"),
}


def test_bad_models_are_refused_with_their_codes_and_the_incumbent_serves(tmp_path: Path) -> None:
    async def scenario() -> None:
        live, slot, manifest = fake_slot(tmp_path / "slots")
        async with hosting(tmp_path) as host:
            await host.load(live, slot, manifest)
            client, pid, seen = attach(host, live), host.pids()[live], {}
            for name, (model, _) in BAD.items():
                with pytest.raises(SkerryError) as refused:
                    await host.load(*bundle(tmp_path / name, model))
                seen[name] = refused.value.code
                assert outcome(client, 5.0) == ""
            assert seen == {name: code for name, (_, code) in BAD.items()}
            assert host.pids() == {live: pid}
            assert host.deaths.empty()
            client.close()

    run(scenario())
