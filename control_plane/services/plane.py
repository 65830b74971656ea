"""What every use case and route of one control-plane process works with. Put together in app.py and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.adapters.blobs import BlobStore
from control_plane.adapters.image_repo import ImageRepository
from control_plane.adapters.peer_certificate import Issuers
from control_plane.config import ControlConfig
from control_plane.services.desired_state import DesiredState
from control_plane.services.enrol_device import Enrolment
from control_plane.services.events import EventFeed
from control_plane.services.last_seen import LastSeen
from control_plane.services.models_part import RegistryPart
from control_plane.services.refusals import Refusals
from control_plane.services.registry_view import RegistryView
from control_plane.services.unit_of_work import Units
from program.clock import Clock


@dataclass
class Plane:
    config: ControlConfig
    clock: Clock
    units: Units
    feed: EventFeed
    blobs: BlobStore
    issuers: Issuers
    image: ImageRepository
    registry: RegistryView  # of devices
    desired: DesiredState
    last_seen: LastSeen
    refusals: Refusals
    enrolment: Enrolment
    ca_sha256: str  # of the server's CA, for tokens
    operator_token: str
    models: RegistryPart  # models, builds, releases, trace
