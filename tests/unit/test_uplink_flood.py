"""A broker that floods a device: its memory is bounded, and the first honest ack after the flood is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from contracts import topics
from contracts.errors import SkerryError
from sync import mqtt
from sync.uplink.uplink import MAX_WAITING, Uplink, UplinkSettings
from tests.simulators.row_path import ACK_KEY, DEVICE, DIGEST, SCHEMA, STRANGER_KEY, open_outbox, rows, signed_ack

FLOOD = 20 * MAX_WAITING


class FloodingBroker:
    """A link that takes everything and lets the test say what comes."""

    connection_no = 1

    def __init__(self) -> None:
        self.sink: Callable[[mqtt.Event], None] = lambda _event: None
        self.published = 0

    def dial(self, _settings: mqtt.Settings, connection_no: int, sink: Callable[[mqtt.Event], None]) -> FloodingBroker:
        self.sink, self.connection_no = sink, connection_no
        return self

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> int:
        self.published += 1
        return self.published

    def send(self, payload: bytes) -> None:
        self.sink(mqtt.Message(topics.ack(DEVICE), payload, self.connection_no, 1))

    def acknowledge(self, message: mqtt.Message) -> None: ...

    def close(self) -> None: ...

    def drop(self) -> None: ...


def test_a_flood_of_forged_acks_is_let_go_and_an_honest_one_is_taken(tmp_path: Path) -> None:
    outbox, broker, alarms = open_outbox(tmp_path / "outbox.db"), FloodingBroker(), list[SkerryError]()
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    uplink = Uplink(
        outbox, UplinkSettings("broker", 1, first_contact_s=0), tls=lambda: None, ack_keys=lambda: {ACK_KEY.key_id: ACK_KEY.public},
        on_alarm=alarms.append, dial=broker.dial,
    )  # fmt: skip

    async def story() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(uplink.run(stop))
        await reached(lambda: broker.connection_no == 1 and uplink.figures()["connection_no"] == 1)
        broker.sink(mqtt.Connected(20, None))
        await reached(lambda: uplink.figures()["sent_batches"] == 1)
        entry = outbox.ledger()[stream]
        for _ in range(FLOOD):
            broker.send(signed_ack({stream: (entry.sent_seq, entry.running_hash)}, STRANGER_KEY))
        await reached(lambda: uplink.figures()["overrun"] + len(alarms) == FLOOD)
        broker.send(signed_ack({stream: (entry.sent_seq, entry.running_hash)}))
        await reached(lambda: outbox.ledger()[stream].acked_seq == entry.sent_seq)
        stop.set()
        await running

    asyncio.run(asyncio.wait_for(story(), 30))
    assert 0 < len(alarms) <= 2 * MAX_WAITING
    assert {alarm.code for alarm in alarms} == {"ACK_SIGNATURE"}
    outbox.close()


async def reached(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.to_thread(int)
