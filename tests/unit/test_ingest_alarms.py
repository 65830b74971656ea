"""What ingest refuses reaches the operators: told beside the intake, counted while the control plane is away, never a flood."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from contracts import topics
from contracts.errors import error
from contracts.operator import MAX_ALARMS, ServiceAlarms
from sync import codec
from sync.ingest.alarms import PAUSE_S, Alarms
from tests.simulators.clock import SimulatedClock
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.lake import SimulatedLake, Storage
from tests.simulators.row_path import DEVICE, DEVICE_KEY, DIGEST, OTHER_DEVICE, SCHEMA, STRANGER_KEY, Ingest, open_outbox, rows


class Plane:
    """A control plane that listens, or is away."""

    def __init__(self) -> None:
        self.away, self.calls = False, 0
        self.heard: list[tuple[str, str, int]] = []

    def __call__(self, told: ServiceAlarms) -> None:
        self.calls += 1
        if self.away:
            raise error("INGEST_FEED")
        self.heard += [(alarm.code, alarm.device, alarm.count) for alarm in told.alarms]


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def alarms(plane: Plane, clock: SimulatedClock) -> Alarms:
    return Alarms(plane, clock)


def test_a_refusal_is_told_once_and_then_by_number(plane: Plane, clock: SimulatedClock, alarms: Alarms) -> None:
    for _ in range(5):
        alarms.note(error("INGEST_SIGNATURE", DEVICE, "forged"), DEVICE)
        alarms.tell()
    assert plane.heard == [("INGEST_SIGNATURE", DEVICE, 1)]
    clock.advance(PAUSE_S)
    alarms.tell()
    assert plane.heard[1:] == [("INGEST_SIGNATURE", DEVICE, 4)]
    alarms.tell()
    assert plane.calls == 2


def test_nothing_is_forgotten_while_the_control_plane_is_away(plane: Plane, alarms: Alarms) -> None:
    plane.away = True
    for _ in range(3):
        alarms.note(error("INGEST_SIGNATURE", DEVICE), DEVICE)
        alarms.tell()
    plane.away = False
    alarms.tell()
    assert plane.heard == [("INGEST_SIGNATURE", DEVICE, 3)]


def test_invented_devices_do_not_make_it_grow(plane: Plane, alarms: Alarms) -> None:
    for number in range(10 * MAX_ALARMS):
        alarms.note(error("INGEST_IDENTITY"), "dev-" + f"{number:026}".translate(str.maketrans("0189", "abcd")))
    alarms.tell()
    assert len(plane.heard) == MAX_ALARMS
    assert sum(count for *_, count in plane.heard) == 10 * MAX_ALARMS


def test_telling_goes_on_beside_until_it_is_stopped(plane: Plane, clock: SimulatedClock, alarms: Alarms) -> None:
    async def story() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(alarms.run(stop))
        alarms.note(error("INGEST_SIGNATURE", DEVICE), DEVICE)
        while not plane.heard:
            await asyncio.to_thread(int)
            clock.advance(1)
        stop.set()
        await task

    asyncio.run(asyncio.wait_for(story(), 10))
    assert plane.heard == [("INGEST_SIGNATURE", DEVICE, 1)]


# -- what the worker tells of


@pytest.fixture
def registry() -> SimulatedRegistry:
    registry = SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    registry.know(OTHER_DEVICE, STRANGER_KEY)
    registry.learn(SCHEMA)
    return registry


@pytest.fixture
def message(tmp_path: Path) -> bytes:
    outbox = open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    message = outbox.take(stream, 0, 1)[0].message
    outbox.close()
    return message


def test_each_forgery_is_told_with_the_device_in_whose_name_it_came(registry: SimulatedRegistry, message: bytes, tmp_path: Path) -> None:
    ingest = Ingest(SimulatedLake(Storage()), registry, tmp_path)
    frame = codec.parse(message)
    ingest.receive(codec.frame(frame.signed, frame.body + b"x", frame.signature))
    ingest.receive(message, device=OTHER_DEVICE)
    ingest.receive(b"rubbish")
    ingest.receive(message)
    assert ingest.alarms == [("INGEST_SIGNATURE", DEVICE), ("INGEST_IDENTITY", OTHER_DEVICE), ("INGEST_MALFORMED", DEVICE)]


@pytest.mark.parametrize("name", ["stranger", "dev-UPPER", "svc-ingest-1"])
def test_a_topic_of_nobody_is_refused_and_ingest_goes_on(registry: SimulatedRegistry, message: bytes, tmp_path: Path, name: str) -> None:
    """A broker can invent any topic; an answer to a device that cannot exist must not end the process."""
    ingest = Ingest(SimulatedLake(Storage()), registry, tmp_path)
    ingest.mail.put(topics.up(name, "live"), message)
    ingest.worker.step(0)
    assert ingest.alarms == [("INGEST_IDENTITY", "")]
    ingest.receive(message)
    assert len(ingest.flush()) == 1
