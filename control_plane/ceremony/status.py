"""When each role and certificate of a site expires, and which are past half their life and should be renewed now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from tuf.api.metadata import Metadata, Root

from control_plane.ceremony import roles
from control_plane.ceremony.layout import Site
from control_plane.signer.repository import Repository

_LIVES = {"root": roles.YEAR, "targets": roles.YEAR, "timestamp": roles.DAY}


@dataclass(frozen=True)
class Line:
    name: str
    version: int
    expires_utc: str
    renew: bool


def status(site: Site, now: datetime) -> list[Line]:
    """One line per role of both repositories that has an offline or signer's key, then one per certificate."""
    lines = [
        _line(f"image {role}", signed.version, signed.expires, _LIVES.get(role, roles.MONTH), now)
        for role, signed in Repository(site.image).current().items()
    ]
    newest = max(site.director.glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
    root = Metadata[Root].from_bytes(newest.read_bytes()).signed
    lines.append(_line("director root", root.version, root.expires, roles.YEAR, now))
    for path in sorted(site.folder.glob("*/**/*.crt")):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        end = certificate.not_valid_after_utc
        lines.append(_line(str(path.relative_to(site.folder)), 0, end, end - certificate.not_valid_before_utc, now))
    return lines


def _line(name: str, version: int, expires: datetime, life: timedelta, now: datetime) -> Line:
    return Line(name, version, expires.isoformat(), now >= expires - life / 2)
