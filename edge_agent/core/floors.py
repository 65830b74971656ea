"""Floors that only rise: verified time, metadata versions, security epoch. python-tuf forgets them with its cache; we do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from contracts.errors import error

BUILD_UTC = datetime(2026, 1, 1, tzinfo=timezone.utc)  # no honest clock shows less than the release's own date


@dataclass(frozen=True)
class Floors:
    """`versions`: `<repository>/<role>` -> newest verified version. `time_utc_s`: newest verified time, seconds since 1970 UTC."""

    time_utc_s: float = BUILD_UTC.timestamp()
    versions: dict[str, int] = field(default_factory=dict)
    security_epoch: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Floors:
        return cls(values["time_utc_s"], dict(values["versions"]), values["security_epoch"])


def check_clock(floors: Floors, now: datetime) -> None:
    """Raises LocalFaultError TUF_CLOCK_BELOW_FLOOR: with such a clock every expired file looks fresh."""
    if now.timestamp() < floors.time_utc_s:
        floor = datetime.fromtimestamp(floors.time_utc_s, timezone.utc).isoformat()
        raise error("TUF_CLOCK_BELOW_FLOOR", now.isoformat(), f"newest verified time is {floor}")


def check_versions(floors: Floors, seen: Mapping[str, int]) -> None:
    """Raises TrustError TUF_ROLLBACK when a role's version is below the newest one verified before."""
    for role, version in seen.items():
        if version < floors.versions.get(role, 0):
            raise error("TUF_ROLLBACK", role, f"version {version}, seen before: {floors.versions[role]}")


def check_expiry(role: str, expires: datetime, now: datetime) -> None:
    """Raises TrustError TUF_EXPIRED."""
    if now >= expires:
        raise error("TUF_EXPIRED", role, f"since {expires.isoformat()}")


def check_epoch(floors: Floors, thing: str, epoch: int) -> None:
    """Raises TrustError BUNDLE_EPOCH."""
    if epoch < floors.security_epoch:
        raise error("BUNDLE_EPOCH", thing, f"epoch {epoch}, floor {floors.security_epoch}")


def with_versions(floors: Floors, seen: Mapping[str, int]) -> Floors:
    merged = {role: max(seen.get(role, 0), floors.versions.get(role, 0)) for role in {*seen, *floors.versions}}
    return replace(floors, versions=merged)


def with_time(floors: Floors, verified: datetime) -> Floors:
    return replace(floors, time_utc_s=max(floors.time_utc_s, verified.timestamp()))


def with_epoch(floors: Floors, epoch: int) -> Floors:
    return replace(floors, security_epoch=max(floors.security_epoch, epoch))
