"""All tables: importing the modules fills the metadata."""

from __future__ import annotations

from control_plane.store import campaigns, counters, desired, devices, events, releases, reports
from control_plane.store.base import Base

TABLES = (campaigns, counters, desired, devices, events, releases, reports)
METADATA = Base.metadata
