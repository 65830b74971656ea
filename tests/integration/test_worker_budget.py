"""A worker and its memory budget, as real processes: what is refused, what ends, who goes first when the kernel has to choose."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_agent.inference import exits
from tests.integration.test_bad_models import changed
from tests.integration.test_worker_host import BOMB, WAIT_S, attach, bomb, hosting, outcome, run, served_again
from tests.simulators.bundles import fake_slot, golden_inputs, write_slot
from tests.simulators.onnx_bundles import weights

MB = 1 << 20
SMALL = {"memory_bytes": 192 * MB, "latency_p95_us": 100_000}


def of_process(pid: int, what: str) -> str:
    return Path(f"/proc/{pid}/{what}").read_text()


def test_a_model_that_takes_more_than_its_budget_ends_alone_and_comes_back(tmp_path: Path) -> None:
    """It keeps what it takes: what was left of its budget is gone, so a new process has to begin."""

    async def scenario() -> None:
        greedy = {"do": "grow", "bytes": 48 * MB, "value": BOMB}
        live, slot, manifest = fake_slot(tmp_path / "slots")
        digest, slot2, manifest2 = fake_slot(tmp_path / "slots", greedy, number=2, limits=SMALL)
        async with hosting(tmp_path) as host:
            await host.load(live, slot, manifest)
            await host.load(digest, slot2, manifest2)
            incumbent, client, pid = attach(host, live), attach(host, digest), host.pids()[live]
            outcomes = [""]
            while outcomes[-1] == "":
                outcomes.append(await asyncio.to_thread(outcome, client, 5.0, bomb()))
                assert outcome(incumbent, 5.0) == ""
            assert outcomes[-1] == "WORKER_CRASH"
            assert 2 < len(outcomes) <= 2 + SMALL["memory_bytes"] // (48 * MB)
            death = await asyncio.wait_for(host.deaths.get(), WAIT_S)
            assert (death.digest, death.returncode, death.code) == (digest, exits.MEMORY, "BUNDLE_LIMITS")
            await served_again(client)
            assert host.pids()[live] == pid
            client.close()
            incumbent.close()

    run(scenario())


def test_an_input_that_would_take_more_than_the_budget_is_refused_and_the_next_one_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        digest, slot, manifest = fake_slot(
            tmp_path / "slots", {"do": "grow", "bytes": 4 * SMALL["memory_bytes"], "value": BOMB}, limits=SMALL
        )
        async with hosting(tmp_path) as host:
            await host.load(digest, slot, manifest)
            client = attach(host, digest)
            assert [outcome(client, 5.0, values) for values in (bomb(), golden_inputs(1))] == ["WORKER_MODEL", ""]
            assert host.deaths.empty()
            client.close()

    run(scenario())


def test_a_worker_goes_before_its_agent_and_leaves_no_dump(tmp_path: Path) -> None:
    async def scenario() -> None:
        digest, slot, manifest = fake_slot(tmp_path / "slots", limits=SMALL)
        async with hosting(tmp_path) as host:
            await host.load(digest, slot, manifest)
            pid = host.pids()[digest]
            assert int(of_process(pid, "oom_score_adj")) == min(1000, int(of_process(os.getpid(), "oom_score_adj")) + 500)
            limits = of_process(pid, "limits")
            assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
            soft, hard = map(int, re.findall(r"^Max data size +(\d+) +(\d+) ", limits, re.MULTILINE)[0])
            assert SMALL["memory_bytes"] < soft == hard < 2 * SMALL["memory_bytes"]

    run(scenario())


def needs_what_it_is_told(model: onnx.ModelProto) -> None:
    """400 bytes for each 1 of the first number, and gives them back: nothing shows before it runs."""
    first, one, hundred = np.array([0]), np.array([1]), np.array([100], np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(*pair) for pair in ((first, "first"), (one, "one"), (hundred, "hundred")))
    model.graph.node[1].output[0] = "answer"
    model.graph.node.extend(
        [
            helper.make_node("Slice", ["flat", "first", "one", "one"], ["told"]),
            helper.make_node("Abs", ["told"], ["size"]),
            helper.make_node("Mul", ["size", "hundred"], ["times"]),
            helper.make_node("Cast", ["times"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["whole", "one"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["answer", "nothing"], ["logits"]),
        ]
    )


def test_a_model_whose_need_hangs_on_its_input_is_held_to_its_budget(tmp_path: Path) -> None:
    """By a limit of the process: without one it would get the 400 MB."""

    async def scenario() -> None:
        inputs = golden_inputs()
        golden = inputs, inputs.reshape(len(inputs), -1) @ weights()
        digest, slot, manifest = write_slot(
            tmp_path, "onnxruntime", "model.onnx", changed(needs_what_it_is_told), golden, {"limits": SMALL}
        )
        async with hosting(tmp_path) as host:
            await host.load(digest, slot, manifest)
            client, pid = attach(host, digest), host.pids()[digest]
            for _ in range(3):
                assert [outcome(client, 5.0, values) for values in (bomb(), golden_inputs(1))] == ["WORKER_MODEL", ""]
            assert host.pids() == {digest: pid}
            client.close()

    run(scenario())
