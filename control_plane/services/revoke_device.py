"""Revocation: the device is decommissioned, its certificates are refused from the next request on, its orders end."""

from __future__ import annotations

from control_plane.domain import device as life
from control_plane.services.unit_of_work import Units
from control_plane.store import desired, devices


def revoke_device(units: Units, device: str, actor: str) -> None:
    """Raises API_NOT_FOUND, API_CONFLICT when it is decommissioned already."""
    with units.write() as work:
        row = devices.must(work.session, device)
        row.state = life.after(device, row.state, "revoke")
        devices.revoke_credentials(work.session, device)
        devices.touch(work.session, row)
        if desired.find(work.session, device) is not None:
            desired.order(work.session, device, desired.NOTHING, work.now)
        work.event("device_revoked", device, actor)
