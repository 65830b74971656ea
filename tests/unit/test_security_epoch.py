"""The floor under the security epoch: it only rises, and nothing goes below it, neither by an order nor by the device itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from contracts.states import State
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.core.orders import Order
from edge_agent.ports import WorkerDeath
from tests.simulators.bundle_bytes import make_bundle
from tests.simulators.device import Device, Disk, order_for, settled

OLD, NEW = make_bundle(1, security_epoch=1), make_bundle(2, security_epoch=1)
NEXT_EPOCH = make_bundle(3, security_epoch=2)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A device that has confirmed OLD and now runs NEW, both of epoch 1."""
    disk = Disk(tmp_path, OLD, NEW, NEXT_EPOCH)
    for fence, bundle in enumerate((OLD, NEW), start=1):
        obey(disk, order_for(bundle, fence))
    return disk


def obey(disk: Disk, order: Order) -> Device:
    """Carry out `order` to its end."""
    device = Device(disk)
    asyncio.run(device.live(lambda device: settled(device) and device.update.record.execution == order.execution, order))
    return device


def reports(disk: Disk) -> list[tuple[str, str]]:
    db = AgentDb(disk.path)
    bodies = [one.body for one in db.pending(1000)]
    db.close()
    return [(body.get("state") or body["event"], body["code"]) for body in bodies]


def floor(disk: Disk) -> int:
    db = AgentDb(disk.path)
    found = db.floors().security_epoch
    db.close()
    return found


def with_floor(disk: Disk, epoch: int) -> None:
    """An assignment that orders nothing and raises the floor."""
    device = Device(disk)
    asyncio.run(device.live(lambda device: device.db.floors().security_epoch == epoch, Order(9, "none", epoch_floor=epoch)))


def test_a_confirmed_bundle_raises_the_floor_to_its_epoch(disk: Disk) -> None:
    assert floor(disk) == 1
    obey(disk, order_for(NEXT_EPOCH, 3))
    assert floor(disk) == 2


def test_an_order_below_the_floor_is_refused_and_the_incumbent_goes_on(disk: Disk) -> None:
    device = obey(disk, order_for(OLD, 3, epoch_floor=2))
    assert (device.update.record.state, device.update.record.code) == (State.REJECTED, "BUNDLE_EPOCH")
    assert disk.slots.current() == NEW.digest


def test_a_floor_that_an_assignment_raised_is_not_lowered_by_a_later_one(disk: Disk) -> None:
    with_floor(disk, 2)
    device = obey(disk, order_for(OLD, 3, epoch_floor=0))
    assert (device.update.record.state, device.update.record.code) == (State.REJECTED, "BUNDLE_EPOCH")
    assert floor(disk) == 2


def test_an_older_digest_at_the_floor_is_accepted(disk: Disk) -> None:
    obey(disk, order_for(OLD, 3, epoch_floor=1))
    assert disk.slots.current() == OLD.digest


def test_a_floor_that_rises_after_admission_stops_the_activation(disk: Disk) -> None:
    held = order_for(OLD, 3, activate=False, shadow_pairs=10)

    def told(device: Device) -> bool:
        if device.update.record.state is State.SHADOWING:
            device.exchange.order = order_for(OLD, 3, generation=4, shadow_pairs=10, epoch_floor=2)
            device.exchange.update_wanted.set()
        return settled(device) and device.update.record.state is State.REVERTED

    asyncio.run(Device(disk).live(told, held))
    assert ("REVERTED", "BUNDLE_EPOCH") in reports(disk)
    assert disk.slots.current() == NEW.digest
    assert OLD.digest not in disk.slots.activations[2:]


def crash_of_the_incumbent(disk: Disk, digest: str) -> Device:
    device = Device(disk)
    device.workers.deaths.put_nowait(WorkerDeath(digest, -9, circuit_open=True))
    return device


def refused(device: Device) -> bool:
    return any(one.body.get("event") == "roll_back_refused" for one in device.db.pending(1000))


def test_a_device_goes_back_by_itself_at_the_floor(disk: Disk) -> None:
    asyncio.run(crash_of_the_incumbent(disk, NEW.digest).live(lambda device: settled(device) and disk.slots.current() == OLD.digest))
    assert reports(disk)[-1] == ("REVERTED", "WORKER_CIRCUIT_OPEN")


def test_a_device_does_not_go_back_by_itself_to_below_the_floor(disk: Disk) -> None:
    obey(disk, order_for(NEXT_EPOCH, 3))
    device = crash_of_the_incumbent(disk, NEXT_EPOCH.digest)
    asyncio.run(device.live(lambda device: refused(device) or disk.slots.current() != NEXT_EPOCH.digest))
    assert reports(disk)[-1] == ("roll_back_refused", "BUNDLE_EPOCH")
    assert disk.slots.current() == NEXT_EPOCH.digest
    assert device.update.record.state is State.CONFIRMED


def test_a_device_does_not_go_back_to_a_slot_that_is_gone(disk: Disk) -> None:
    """Else it would stand in ROLLING_BACK for ever, and take no new order."""
    disk.slots.sealed.pop(OLD.digest)
    device = crash_of_the_incumbent(disk, NEW.digest)
    asyncio.run(device.live(refused))
    assert reports(disk)[-1] == ("roll_back_refused", "BUNDLE_MEMBER_DIGEST")
    assert device.update.record.terminal


def test_a_refused_way_back_is_told_once(disk: Disk) -> None:
    obey(disk, order_for(NEXT_EPOCH, 3))
    device = crash_of_the_incumbent(disk, NEXT_EPOCH.digest)
    seen = 0

    def twice(device: Device) -> bool:
        nonlocal seen
        if device.exchange.deaths_seen > seen:
            seen = device.exchange.deaths_seen
            device.workers.deaths.put_nowait(WorkerDeath(NEXT_EPOCH.digest, -9, circuit_open=True))
        return seen == 4

    asyncio.run(device.live(twice))
    assert reports(disk).count(("roll_back_refused", "BUNDLE_EPOCH")) == 1
