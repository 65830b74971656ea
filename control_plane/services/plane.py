"""What every use case and route of one control-plane process works with. Put together in app.py and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.adapters.blobs import BlobStore
from control_plane.config import ControlConfig
from control_plane.services.events import EventFeed
from control_plane.services.unit_of_work import Units
from program.clock import Clock


@dataclass
class Plane:
    config: ControlConfig
    clock: Clock
    units: Units
    feed: EventFeed
    blobs: BlobStore
