"""Which routers each listener has. A new router is added here and nowhere else.

Every router of OPERATORS is mounted behind the operator's token, every router of INTERNAL names its service role itself.
"""

from __future__ import annotations

from fastapi import APIRouter

from control_plane.api import alarms, blobs, builds, campaigns, device, devices, enrolment, models, releases, site, trace

OPERATORS: tuple[APIRouter, ...] = (
    devices.router, campaigns.router, models.router, releases.router, trace.router, blobs.operators, site.router,
)  # fmt: skip
INTERNAL: tuple[APIRouter, ...] = (devices.internal, builds.router, blobs.internal, alarms.router)  # devices' listener, /internal/v1
DEVICES: tuple[APIRouter, ...] = (device.router, blobs.devices)  # devices' listener, /device/v1
ENROLMENT: tuple[APIRouter, ...] = (enrolment.router,)
