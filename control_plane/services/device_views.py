"""Devices as operators and services see them."""

from __future__ import annotations

from contracts.operator import DeviceView, RegistryFeed
from control_plane.services.last_seen import LastSeen
from control_plane.services.unit_of_work import Units
from control_plane.store import desired, devices


def all_devices(units: Units, last_seen: LastSeen) -> list[DeviceView]:
    with units.read() as session:
        generations = desired.generations(session)
        return [devices.view(session, row, generations.get(row.id, 0), last_seen.of(row.id)) for row in devices.listed(session)]


def one_device(units: Units, last_seen: LastSeen, device: str) -> DeviceView:
    """Raises API_NOT_FOUND."""
    with units.read() as session:
        row = devices.must(session, device)
        wanted = desired.find(session, device)
        return devices.view(session, row, wanted.generation if wanted else 0, last_seen.of(device))


def registry_feed(units: Units, since: int) -> RegistryFeed:
    """Devices changed after revision `since`, with the keys that their batches may be signed by."""
    with units.read() as session:
        revision, changed = devices.feed(session, since)
        return RegistryFeed(revision=revision, devices=changed)
