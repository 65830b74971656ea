"""How the site stands: counts, what waits for what, what expires when."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import Metadata

from contracts.errors import SkerryError
from contracts.operator import KeyView
from control_plane.domain.campaign import waits_for
from control_plane.services.pins import DEVICE_CA, SERVICE_CA, SITE_CA, certificate
from control_plane.services.plane import Plane
from control_plane.store import campaigns, devices, events

SOON = timedelta(days=30)  # certificates of the site are renewed by people, who need time


def status(plane: Plane) -> dict[str, Any]:
    with plane.units.read() as session:
        open_campaigns = [campaigns.load(session, row) for row in campaigns.to_tend(session)]
        return {
            "devices": dict(Counter(row.state for row in devices.listed(session))),
            "campaigns": dict(Counter(row.state for row in campaigns.listed(session))),
            "waits": {campaign.id: waits_for(campaign)[0] for campaign in open_campaigns},
            "events": events.last_seq(session),
            "registry_revision": devices.registry_revision(session),
        }


def keys(plane: Plane) -> list[KeyView]:
    now, config = plane.clock.utc(), plane.config
    certificates = {
        **{name: config.public(name) for name in (SITE_CA, DEVICE_CA, SERVICE_CA)},
        "server.crt": config.key("server.crt"),
    }
    lines = [
        _line(f"certificate/{name.removesuffix('.crt')}", certificate(path).not_valid_after_utc, now, SOON)
        for name, path in certificates.items()
    ]
    return [*lines, *_director(plane, now), *_image(plane, now)]


def _line(name: str, expires: datetime, now: datetime, margin: timedelta, version: int | None = None) -> KeyView:
    return KeyView(name=name, expires_utc=expires.isoformat(), version=version, overdue=expires - margin <= now)


def _director(plane: Plane, now: datetime) -> list[KeyView]:
    found = sorted(plane.config.director_dir.glob("*.root.json"), key=lambda path: int(path.name.partition(".")[0]))
    if not found:
        return [KeyView(name="director/root", expires_utc="", overdue=True, detail="no root in the director's folder")]
    root = Metadata.from_file(str(found[-1])).signed
    return [_line("director/root", root.expires, now, SOON, root.version)]


def _image(plane: Plane, now: datetime) -> list[KeyView]:
    """The signer's roles, which it renews by itself: overdue means that it does not."""
    try:
        answer = plane.models.signer.status()
    except SkerryError as failed:
        return [KeyView(name="image", expires_utc="", overdue=True, detail=str(failed))]
    return [
        _line(f"image/{role}", datetime.fromisoformat(expires), now, timedelta(0), answer.versions.get(role))
        for role, expires in sorted(answer.expires_utc.items())
    ]
