"""When a broker says that nobody listens: rows wait, and only what was said of rows makes them wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sync import mqtt
from sync.uplink.uplink import Uplink, UplinkSettings
from tests.simulators.row_path import DIGEST, SCHEMA, open_outbox, rows
from tests.unit.test_uplink_flood import FloodingBroker, reached

PRESENCE, FIRST_ROWS = 1, 2  # message ids, in the order in which a device publishes


def test_rows_are_held_when_nobody_listens_to_rows_and_not_when_nobody_reads_who_is_there(tmp_path: Path) -> None:
    outbox, broker = open_outbox(tmp_path / "outbox.db"), FloodingBroker()
    uplink = Uplink(outbox, UplinkSettings("broker", 1, first_contact_s=0), tls=lambda: None, ack_keys=dict, dial=broker.dial)

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
        accept(0)
        await reached(lambda: broker.published == FIRST_ROWS or bool(uplink.figures()["held"]))
        assert not uplink.figures()["held"]
        broker.sink(mqtt.Published(FIRST_ROWS, mqtt.NO_MATCHING_SUBSCRIBERS))
        await reached(lambda: uplink.figures()["held"])
        accept(5)
        stop.set()
        await running
        assert uplink.figures()["sent_batches"] == 1

    asyncio.run(asyncio.wait_for(story(), 5))
    outbox.close()
