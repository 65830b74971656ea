"""Updates told as stories, over slots in memory: what fails in which state, what the incumbent does meanwhile.

Each state against each kind of failure, on real files and in processes that die: tests/integration/test_crash_matrix.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import error
from contracts.states import State
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.core.orders import Order
from edge_agent.inference.exits import MEMORY
from edge_agent.ports import WorkerDeath
from tests.simulators.bundle_bytes import make_bundle
from tests.simulators.device import Device, Disk, order_for, settled

V1, V2 = make_bundle(1), make_bundle(2)
GOOD = ["OFFERED", "DOWNLOADING", "STAGED", "BUILDING_ENGINE", "ACTIVATING", "PROBATION", "CONFIRMED"]


def on(device: Device, digest: str) -> bool:
    return settled(device) and device.update.record.live == digest


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A device that runs V1, confirmed."""
    disk = Disk(tmp_path_factory.mktemp("first"), V1, V2)
    asyncio.run(Device(disk).live(lambda device: on(device, V1.digest), order_for(V1)))
    return disk


@pytest.fixture
def disk(first: Disk, tmp_path: Path) -> Disk:
    return first.copy(tmp_path)


def reported(disk: Disk, execution: str) -> list[tuple[str, str]]:
    db = AgentDb(disk.path)
    reports = [one for one in db.pending(1000) if one.execution == execution and one.body["kind"] == "transition"]
    assert [one.seq for one in reports] == list(range(1, len(reports) + 1))
    db.close()
    return [(one.body["state"], one.body["code"]) for one in reports]


def settled_after(order: Order) -> Callable[[Device], bool]:
    return lambda device: settled(device) and device.update.record.execution == order.execution


FAULTS = [
    # where, what                       ends in, code, the incumbent goes on
    ("manifest", "BUNDLE_NOT_IN_IMAGE", State.REJECTED),
    ("check_space", "BUNDLE_NO_SPACE", State.FAILED),
    ("stage", "BUNDLE_MEMBER_DIGEST", State.FAILED),
    ("seal", "BUNDLE_MODEL_SIGNATURE", State.FAILED),
    ("load", "BUNDLE_GOLDEN", State.FAILED),
    ("activate", "BUNDLE_NO_SPACE", State.REVERTED),
    ("latency", "BUNDLE_LIMITS", State.REVERTED),
]


@pytest.mark.parametrize(("where", "code", "ends"), FAULTS)
def test_a_fault_ends_in_its_state_and_the_incumbent_goes_on(disk: Disk, where: str, code: str, ends: State) -> None:
    if where == "manifest":
        disk.trust.faults = [error(code)]
    elif where == "load":
        disk.load_faults = {V2.digest: error(code)}
    elif where == "latency":
        disk.us = 50_000
    else:
        disk.slots.faults = {where: [error(code)]}
    asyncio.run(Device(disk).live(settled_after(order_for(V2, 2)), order_for(V2, 2)))
    assert reported(disk, "c2/d/1")[-1] == (ends.value, code)
    assert disk.slots.current() == V1.digest
    assert V2.digest not in disk.slots.sealed


def test_a_model_without_room_beside_the_incumbent_is_not_even_started(disk: Disk) -> None:
    device = Device(disk)
    device.workers.too_large = {V2.digest}
    asyncio.run(device.live(settled_after(order_for(V2, 2)), order_for(V2, 2)))
    assert reported(disk, "c2/d/1")[-1] == ("FAILED", "WORKER_MEMORY")
    assert device.workers.loads == [V1.digest]


def test_neither_a_roll_back_nor_a_start_asks_for_room(disk: Disk) -> None:
    """On a full machine an answer by the old model is worth more than the reserve."""
    asyncio.run(Device(disk).live(lambda device: on(device, V2.digest), order_for(V2, 2)))
    device = Device(disk)
    device.workers.too_large = {V1.digest, V2.digest}
    device.workers.deaths.put_nowait(WorkerDeath(V2.digest, -9, circuit_open=True))
    asyncio.run(device.live(lambda device: on(device, V1.digest), order_for(V2, 2)))
    assert reported(disk, "c2/d/1")[-1] == ("REVERTED", "WORKER_CIRCUIT_OPEN")


def test_a_transient_fault_is_tried_again(disk: Disk) -> None:
    disk.trust.faults = [error("TUF_UNREACHABLE"), error("TUF_TOO_SLOW")]
    disk.slots.faults = {"stage": [error("API_UNREACHABLE")]}
    asyncio.run(Device(disk).live(settled_after(order_for(V2, 2)), order_for(V2, 2)))
    assert reported(disk, "c2/d/1") == [(state, "") for state in GOOD]


@pytest.mark.parametrize(("returncode", "code"), [(-11, "WORKER_CRASH"), (MEMORY, "BUNDLE_LIMITS")])
def test_a_worker_that_ends_in_probation_is_a_veto(disk: Disk, returncode: int, code: str) -> None:
    order = order_for(V2, 2, min_frames=10**9)
    device = Device(disk)

    def crashed(device: Device) -> bool:
        if device.update.record.state is State.PROBATION and not device.exchange.deaths_seen:
            device.workers.deaths.put_nowait(WorkerDeath(V2.digest, returncode, circuit_open=False))
        return on(device, V1.digest) and device.update.record.execution == order.execution

    asyncio.run(device.live(crashed, order))
    assert reported(disk, "c2/d/1")[-1] == ("REVERTED", code)


def test_an_open_circuit_after_confirmation_reverts_by_itself(disk: Disk) -> None:
    asyncio.run(Device(disk).live(lambda device: on(device, V2.digest), order_for(V2, 2)))
    device = Device(disk)

    def given_up(device: Device) -> bool:
        tidied = device.exchange.passes.get("update", 0) > 0  # a worker that dies before is loaded anew
        if tidied and V2.digest in device.workers.loaded():
            device.workers.give_up(V2.digest)
        return on(device, V1.digest)

    asyncio.run(device.live(given_up, order_for(V2, 2), limit_s=3))
    assert device.workers.open == set()  # its memory is given back
    assert reported(disk, "c2/d/1")[-2:] == [("ROLLING_BACK", "WORKER_CIRCUIT_OPEN"), ("REVERTED", "WORKER_CIRCUIT_OPEN")]


def test_a_damaged_slot_at_start_falls_back_to_the_one_before(disk: Disk) -> None:
    asyncio.run(Device(disk).live(lambda device: on(device, V2.digest), order_for(V2, 2)))
    disk.slots.damaged = {V2.digest}
    asyncio.run(Device(disk).live(lambda device: on(device, V1.digest)))
    assert reported(disk, "c2/d/1")[-1] == ("REVERTED", "BUNDLE_MEMBER_DIGEST")


def test_the_incumbent_answers_before_anything_else_happens(disk: Disk) -> None:
    device = Device(disk)
    asyncio.run(device.live(settled_after(order_for(V2, 2)), order_for(V2, 2)))
    assert device.pipeline.routes[:2] == [(None, None), (V1.digest, None)]
    assert device.workers.loads[0] == V1.digest


def test_shadowing_feeds_both_until_told(disk: Disk) -> None:
    held = order_for(V2, 2, activate=False, shadow_pairs=10)
    device = Device(disk)

    def told(device: Device) -> bool:
        if device.pipeline.routes[-1] == (V1.digest, V2.digest):
            device.exchange.order = order_for(V2, 2, generation=3, shadow_pairs=10)
            device.exchange.update_wanted.set()
        return on(device, V2.digest)

    asyncio.run(device.live(told, held))
    assert device.pipeline.routes[1:] == [(V1.digest, None), (V1.digest, V2.digest), (V2.digest, None)]
    assert [state for state, _ in reported(disk, "c2/d/1")] == [*GOOD[:4], "SHADOWING", *GOOD[4:]]
