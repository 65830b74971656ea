"""The device registry: devices, their credentials, enrolment tokens and requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, delete, select, update
from sqlalchemy.orm import Mapped, mapped_column

from contracts.errors import error
from contracts.operator import DeviceView, RegistryDevice
from control_plane.domain.device import DeviceState
from control_plane.store import counters
from control_plane.store.base import Base, Session

ACTIVE: DeviceState = "ACTIVE"


class DeviceRow(Base):
    __tablename__ = "devices"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    state: Mapped[DeviceState] = mapped_column(String, index=True)
    profile: Mapped[str] = mapped_column(String, default="")
    labels: Mapped[dict[str, str]] = mapped_column(default=dict)
    serial: Mapped[str] = mapped_column(String, default="")
    inventory: Mapped[dict[str, Any]] = mapped_column(default=dict)
    agent_version: Mapped[str] = mapped_column(String, default="")
    running_digest: Mapped[str] = mapped_column(String, default="")
    confirmed_digest: Mapped[str] = mapped_column(String, default="")  # the last one that reached CONFIRMED on this device
    ledger: Mapped[dict[str, int]] = mapped_column(default=dict)
    created_utc: Mapped[datetime]
    last_seen_utc: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(BigInteger, index=True)  # of the registry, when state or keys last changed


class CredentialRow(Base):
    """A certificate and the batch key that came with it. Several are valid at once while a device renews."""

    __tablename__ = "credentials"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)  # sha256 of the certificate's DER
    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), index=True)
    certificate_pem: Mapped[str] = mapped_column(String)
    not_after: Mapped[datetime]
    batch_key_id: Mapped[str] = mapped_column(String)
    batch_public_key: Mapped[str] = mapped_column(String(64))
    revoked: Mapped[bool] = mapped_column(default=False)


class TokenRow(Base):
    """An enrolment token, of which only the secret's sha256 is kept. Spent = bound to the public key that spent it."""

    __tablename__ = "enrolment_tokens"

    secret_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    serial: Mapped[str] = mapped_column(String, default="")  # "" binds to no machine
    labels: Mapped[dict[str, str]] = mapped_column(default=dict)
    preregistered: Mapped[bool]
    expires_utc: Mapped[datetime]
    spent_key_sha256: Mapped[str] = mapped_column(String(64), default="")
    request: Mapped[str | None] = mapped_column(ForeignKey("enrolment_requests.id"))


class EnrolmentRow(Base):
    """A request for a certificate; it stays, so that an answer lost on the way can be fetched again."""

    __tablename__ = "enrolment_requests"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), index=True)
    csr_pem: Mapped[str] = mapped_column(String)
    batch_public_key: Mapped[str] = mapped_column(String(64))
    created_utc: Mapped[datetime]
    fingerprint: Mapped[str | None] = mapped_column(ForeignKey("credentials.fingerprint"))


def must(session: Session, device: str) -> DeviceRow:
    """Raises API_NOT_FOUND."""
    row = session.get(DeviceRow, device)
    if row is None:
        raise error("API_NOT_FOUND", device, "no such device")
    return row


def touch(session: Session, row: DeviceRow) -> None:
    """The registry changed: its next revision is written to the device, and every replica's memory ends."""
    row.revision = counters.raised(session, counters.REGISTRY)


def registry_revision(session: Session) -> int:
    return counters.read(session, counters.REGISTRY)


def active_ids(session: Session) -> frozenset[str]:
    return frozenset(session.scalars(select(DeviceRow.id).where(DeviceRow.state == ACTIVE)))


def revoked_fingerprints(session: Session) -> frozenset[str]:
    return frozenset(session.scalars(select(CredentialRow.fingerprint).where(CredentialRow.revoked)))


def credential(session: Session, fingerprint: str) -> CredentialRow | None:
    return session.get(CredentialRow, fingerprint)


def drop_expired(session: Session, device: str, now: datetime) -> None:
    """Forget a device's credentials that have expired, but never the one that an enrolment request still points at."""
    kept = select(EnrolmentRow.fingerprint).where(EnrolmentRow.device == device, EnrolmentRow.fingerprint.is_not(None))
    session.execute(
        delete(CredentialRow).where(
            CredentialRow.device == device, CredentialRow.not_after <= now, ~CredentialRow.revoked, CredentialRow.fingerprint.not_in(kept)
        )
    )


def revoke_credentials(session: Session, device: str) -> None:
    session.execute(update(CredentialRow).where(CredentialRow.device == device).values(revoked=True))


def batch_keys(session: Session, devices: Iterable[str]) -> dict[str, dict[str, str]]:
    """device -> key id -> raw public key, hex; expired ones too: batches are late where the link was."""
    found: dict[str, dict[str, str]] = {device: {} for device in devices}
    for row in session.scalars(select(CredentialRow).where(CredentialRow.device.in_(found))):
        found[row.device][row.batch_key_id] = row.batch_public_key
    return found


def feed(session: Session, since: int) -> tuple[int, tuple[RegistryDevice, ...]]:
    """The registry's revision and every device changed after `since`."""
    rows = session.scalars(select(DeviceRow).where(DeviceRow.revision > since).order_by(DeviceRow.revision)).all()
    keys = batch_keys(session, [row.id for row in rows])
    return registry_revision(session), tuple(RegistryDevice(id=row.id, state=row.state, batch_keys=keys[row.id]) for row in rows)


def listed(session: Session) -> list[DeviceRow]:
    return list(session.scalars(select(DeviceRow).order_by(DeviceRow.id)))


def profiles(session: Session) -> list[str]:
    """Distinct profiles of devices that are not decommissioned, sorted."""
    query = select(DeviceRow.profile).where(DeviceRow.state != "DECOMMISSIONED", DeviceRow.profile != "").distinct()
    return sorted(session.scalars(query))


def last_not_after(session: Session, device: str) -> datetime | None:
    query = select(CredentialRow.not_after).where(CredentialRow.device == device, ~CredentialRow.revoked)
    return session.scalar(query.order_by(CredentialRow.not_after.desc()).limit(1))


def seen(session: Session, times: Mapping[str, datetime]) -> None:
    """Write grouped last contacts."""
    rows = session.scalars(select(DeviceRow).where(DeviceRow.id.in_(times)))
    for row in rows:
        row.last_seen_utc = times[row.id]


def view(session: Session, row: DeviceRow, generation: int, last_seen: datetime | None) -> DeviceView:
    not_after = last_not_after(session, row.id)
    latest = max((time for time in (row.last_seen_utc, last_seen) if time), default=None)
    return DeviceView(
        id=row.id, state=row.state, profile=row.profile, labels=row.labels, running_digest=row.running_digest,
        confirmed_digest=row.confirmed_digest, desired_generation=generation, ledger=row.ledger,
        last_seen_utc=latest.isoformat() if latest else None, certificate_not_after=not_after.isoformat() if not_after else "",
    )  # fmt: skip


def pending_request(session: Session, device: str) -> EnrolmentRow | None:
    query = select(EnrolmentRow).where(EnrolmentRow.device == device).order_by(EnrolmentRow.created_utc.desc()).limit(1)
    return session.scalar(query)
