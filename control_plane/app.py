"""skerry-control: the one place where the control plane is put together.

One process, three listeners (operators, devices, enrolment), one loop that advances campaigns when a report, an operator
or the alarm clock wakes it, one that follows models and releases, one that writes heartbeats and repeated refusals in groups.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from datetime import timedelta

import uvloop

from contracts.errors import error
from control_plane.adapters.alarm import Alarm
from control_plane.adapters.blobs import BlobStore
from control_plane.adapters.certificates import DeviceCa
from control_plane.adapters.director import Director, Settings
from control_plane.adapters.image_repo import ImageRepository
from control_plane.adapters.listeners import Listener, Listeners, server_tls
from control_plane.adapters.peer_certificate import Issuers, httptools_protocol
from control_plane.api import apps
from control_plane.config import ControlConfig
from control_plane.services.advance_campaigns import advance_campaigns
from control_plane.services.attempts import Attempts
from control_plane.services.desired_state import DesiredState
from control_plane.services.enrol_device import Enrolment
from control_plane.services.events import EventFeed
from control_plane.services.last_seen import LastSeen
from control_plane.services.models_part import RegistryPart
from control_plane.services.pins import DEVICE_CA, SERVICE_CA, SITE_CA, ack_keys, certificate, read_pins, server_ca_sha256
from control_plane.services.plane import Plane
from control_plane.services.refusals import Refusals
from control_plane.services.registry_view import RegistryView
from control_plane.services.unit_of_work import Units
from control_plane.store.base import Database, make_engine
from control_plane.store.migrate import migrate
from program import notify
from program.clock import Clock, SystemClock
from program.files import write_durably
from program.log import Log
from program.run import add_arguments, run

log = Log("control")
PASS_S = 5.0  # at the latest; also the watchdog's pace
SOONEST = timedelta(milliseconds=100)  # what is overdue and cannot be done now must not spin
PORTS_FILE = "control.ports.json"


async def serve(config: ControlConfig, stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises CONFIG_INVALID when keys are missing, SETUP_PORT_BUSY."""
    for folder in (config.state_dir, config.run_dir):
        folder.mkdir(parents=True, exist_ok=True)
    database = Database(make_engine(config.database_url))
    await asyncio.to_thread(migrate, database.engine)
    plane = await _put_together(config, database, SystemClock())
    try:
        async with Listeners(_listeners(plane), config.keep_alive_s) as ports:
            write_durably(config.run_dir / PORTS_FILE, json.dumps(ports).encode())
            log("control_serves", **ports)
            await _loops(plane, stop)
            plane.feed.close()  # the listeners would give each long poll their grace
    finally:
        await asyncio.to_thread(Attempts(log, "heartbeats"), plane.last_seen.flush)
        plane.models.close()
        database.close()
    log("control_stopped")


async def _put_together(config: ControlConfig, database: Database, clock: Clock) -> Plane:
    try:
        return await _parts(config, database, clock)
    except (FileNotFoundError, PermissionError) as missing:
        raise error("CONFIG_INVALID", str(missing.filename), "a key or certificate of the site cannot be read") from missing


async def _parts(config: ControlConfig, database: Database, clock: Clock) -> Plane:
    units, blobs = Units(database, clock), BlobStore(config.blobs)
    settings = Settings(
        config.director_life_s, config.poll_interval_s, config.report_window_s, config.security_epoch_floor, ack_keys(config)
    )  # fmt: skip
    desired = DesiredState(units, Director(config.key("director.pem"), settings), clock)
    ca = DeviceCa(config.key("device-ca.key"), config.key("device-ca.crt"))
    life = timedelta(days=config.certificate_days)
    return Plane(
        config=config,
        clock=clock,
        units=units,
        feed=EventFeed(units),
        blobs=blobs,
        issuers=Issuers(ca.certificate, certificate(config.public(SERVICE_CA))),
        image=ImageRepository(config.image_repo_dir),
        registry=RegistryView(units, desired, clock),
        desired=desired,
        last_seen=LastSeen(units, clock),
        refusals=Refusals(units, clock),
        enrolment=Enrolment(units, ca, read_pins(config), life),
        ca_sha256=server_ca_sha256(config),
        operator_token=config.key("operator.token").read_text().strip(),
        models=await asyncio.to_thread(RegistryPart.open, config, units, blobs, clock),
    )


def _listeners(plane: Plane) -> list[Listener]:
    config = plane.config
    pair = config.key("server.crt"), config.key("server.key")
    clients = tuple(config.public(name) for name in (SITE_CA, DEVICE_CA, SERVICE_CA))
    by_certificate = httptools_protocol(plane.issuers)
    return [
        Listener("operators", config.operators_host, config.operators_port, apps.operators(plane)),
        Listener("devices", config.devices_host, config.devices_port, apps.devices(plane), by_certificate, server_tls(*pair, clients)),
        Listener("enrolment", config.enrolment_host, config.enrolment_port, apps.enrolment(plane), tls=server_tls(*pair)),
    ]


async def _loops(plane: Plane, stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_campaigns(plane, stop), name="campaigns")
        tasks.create_task(_heartbeats(plane, stop), name="heartbeats")
        tasks.create_task(plane.models.run(stop), name="models")


async def _campaigns(plane: Plane, stop: asyncio.Event) -> None:
    """A pass after each commit, at each alarm, and every PASS_S: another replica's rows ring no bell here."""
    loop, due = asyncio.get_running_loop(), asyncio.Event()

    def committed() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(due.set)

    plane.units.on_commit(committed)
    attempt = Attempts(log, "campaigns")
    stopping = asyncio.create_task(stop.wait(), name="campaigns-stop")
    stopping.add_done_callback(lambda _: due.set())
    alarm = Alarm(due.set)
    alarm.start()
    try:
        notify.ready("serves")
        while not stop.is_set():
            due.clear()
            when = await asyncio.to_thread(attempt, lambda: advance_campaigns(plane.units))
            if when is not None:
                alarm.set(max(when, plane.clock.utc() + SOONEST))
            notify.watchdog()
            await plane.clock.wait(due, PASS_S)
    finally:
        alarm.stop()
        stopping.cancel()


async def _heartbeats(plane: Plane, stop: asyncio.Event) -> None:
    attempt = Attempts(log, "heartbeats")
    while not await plane.clock.wait(stop, plane.config.last_seen_flush_s):
        await asyncio.to_thread(attempt, plane.last_seen.flush)
        await asyncio.to_thread(attempt, plane.refusals.flush)


def main() -> None:
    parser = argparse.ArgumentParser(prog="skerry-control", description="Control plane: devices, models, releases, campaigns.")
    add_arguments(parser, "/etc/skerry/control.toml")
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    sys.exit(run("skerry-control", ControlConfig, parser.parse_args(), serve))


if __name__ == "__main__":
    main()
