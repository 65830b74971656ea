"""When a broker says that nobody listens: rows wait, and only what was said of rows makes them wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

from contracts.errors import SkerryError
from sync import mqtt
from sync.uplink.uplink import Uplink, UplinkSettings
from tests.simulators.row_path import ACK_KEY, DIGEST, SCHEMA, STRANGER_KEY, open_outbox, rows, signed_ack
from tests.unit.test_uplink_flood import FloodingBroker, reached

PRESENCE, FIRST_ROWS = 1, 2  # message ids, in the order in which a device publishes


def test_rows_are_held_when_nobody_listens_to_rows_and_not_when_nobody_reads_who_is_there(tmp_path: Path) -> None:
    outbox, broker, alarms = open_outbox(tmp_path / "outbox.db"), FloodingBroker(), list[SkerryError]()
    settings, keys = UplinkSettings("broker", 1, first_contact_s=0), lambda: {ACK_KEY.key_id: ACK_KEY.public}
    uplink = Uplink(outbox, settings, tls=lambda: None, ack_keys=keys, on_alarm=alarms.append, dial=broker.dial)

    def accept(first: int) -> None:
        outbox.accept("live", SCHEMA, DIGEST, rows(first, 5))
        uplink.nudge()

    async def story() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(uplink.run(stop))
        await reached(lambda: uplink.figures()["connection_no"] == 1)
        broker.sink(mqtt.Connected(20, None))
        await reached(lambda: broker.published == PRESENCE)
        broker.sink(mqtt.Published(PRESENCE, mqtt.NO_MATCHING_SUBSCRIBERS))
        broker.send(signed_ack({}, STRANGER_KEY))
        await reached(lambda: bool(alarms))  # so what was said before it has been heard
        assert not uplink.figures()["held"]
        accept(0)
        await reached(lambda: broker.published == FIRST_ROWS)
        broker.sink(mqtt.Published(FIRST_ROWS, mqtt.NO_MATCHING_SUBSCRIBERS))
        await reached(lambda: uplink.figures()["held"])
        accept(5)
        stop.set()
        await running
        assert uplink.figures()["sent_batches"] == 1

    asyncio.run(asyncio.wait_for(story(), 5))
    outbox.close()
