"""Enrolment: a one-time token and a certificate request against a device's id, certificate and pins.

Rules:
- The id is made here; the request's subject is never used.
- A token is spent by the public key that uses it. The same key may ask again with it and gets the same answer, because an
  answer can be lost on the way; any other key is refused.
- A token that an operator made as pre-registration is approval enough; else a person approves, and the device asks again.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.canonical import key_id, sha256_hex
from contracts.enrolment import EnrolmentAnswer, EnrolmentPending, EnrolmentRequest, Pins, Token
from contracts.errors import error
from control_plane.adapters.certificates import DeviceCa, Request, check_batch_key, parse_request, require_own_name
from control_plane.domain import device as life
from control_plane.services.unit_of_work import UnitOfWork, Units
from control_plane.store import desired, devices
from control_plane.store.devices import CredentialRow, DeviceRow, EnrolmentRow, TokenRow

MAX_INVENTORY_KEYS = 64


@dataclass(frozen=True)
class Enrolment:
    """The use cases that end in a certificate."""

    units: Units
    ca: DeviceCa
    pins: Pins
    certificate_life: timedelta

    def request(self, asked: EnrolmentRequest) -> EnrolmentAnswer | EnrolmentPending:
        """Raises ENROL_TOKEN_UNKNOWN, _EXPIRED, _SPENT, _BINDING, ENROL_CSR_REFUSED."""
        request = parse_request(asked.csr_pem)
        check_batch_key(request, asked.batch_key)
        require_own_name(asked.csr_pem, "")
        with self.units.write() as work:
            token = _token(work, asked, request)
            if token.request is None:
                self._register(work, token, asked, request)
            enrolment = work.session.get_one(EnrolmentRow, token.request)
            if enrolment.fingerprint is None and token.preregistered:
                self._grant(work, enrolment)
            return self._answer(work, enrolment)

    def answer(self, request_id: str) -> EnrolmentAnswer | EnrolmentPending:
        """Raises API_NOT_FOUND; API_FORBIDDEN once the device was revoked."""
        with self.units.write() as work:
            enrolment = work.session.get(EnrolmentRow, request_id)
            if enrolment is None:
                raise error("API_NOT_FOUND", request_id[:40], "no such enrolment request")
            return self._answer(work, enrolment)

    def approve(self, device: str, actor: str) -> None:
        """A person lets a pending device in. Raises API_NOT_FOUND, API_CONFLICT."""
        with self.units.write() as work:
            row = devices.must(work.session, device)
            life.after(device, row.state, "approve")
            enrolment = devices.pending_request(work.session, device)
            if enrolment is None:
                raise error("API_CONFLICT", device, "it has no enrolment request")
            work.event("device_approved", device, actor)
            self._grant(work, enrolment)

    def _register(self, work: UnitOfWork, token: TokenRow, asked: EnrolmentRequest, request: Request) -> None:
        device = new_device_id()
        inventory = dict(list(asked.inventory.items())[:MAX_INVENTORY_KEYS])
        row = DeviceRow(
            id=device,
            state="PENDING",
            profile=str(inventory.get("profile", "")),
            labels=token.labels,
            serial=str(inventory.get("serial", "")),
            inventory=inventory,
            agent_version=str(inventory.get("agent_version", "")),
            created_utc=work.now,
            revision=0,
        )
        work.session.add(row)
        devices.touch(work.session, row)
        enrolment = EnrolmentRow(
            id=secrets.token_urlsafe(24),
            device=device,
            csr_pem=asked.csr_pem,
            batch_public_key=asked.batch_key.public_key,
            created_utc=work.now,
        )
        work.session.add(enrolment)
        work.session.flush()
        token.spent_key_sha256, token.request = request.key_sha256, enrolment.id
        asked_for = {
            "profile": row.profile,
            "serial": row.serial,
            "labels": row.labels,
            "code": "" if token.preregistered else "ENROL_PENDING",
        }
        work.event("device_requested", device, f"device:{device}", **asked_for)

    def _grant(self, work: UnitOfWork, enrolment: EnrolmentRow) -> None:
        row = devices.must(work.session, enrolment.device)
        row.state = life.after(row.id, row.state, "approve")
        enrolment.fingerprint = issue(work, self.ca, row, enrolment.csr_pem, enrolment.batch_public_key, self.certificate_life).fingerprint
        desired.order(work.session, row.id, desired.NOTHING, work.now)
        devices.touch(work.session, row)
        work.event("device_enrolled", row.id, f"device:{row.id}", profile=row.profile, labels=row.labels, fingerprint=enrolment.fingerprint)

    def _answer(self, work: UnitOfWork, enrolment: EnrolmentRow) -> EnrolmentAnswer | EnrolmentPending:
        state = devices.must(work.session, enrolment.device).state
        if state in ("QUARANTINED", "DECOMMISSIONED"):
            raise error("API_FORBIDDEN", enrolment.device, f"the device is {state}")
        if enrolment.fingerprint is None:
            return EnrolmentPending(request_id=enrolment.id)
        issued = work.session.get_one(CredentialRow, enrolment.fingerprint)
        return EnrolmentAnswer(device=enrolment.device, certificate_pem=issued.certificate_pem, pins=self.pins)


def issue(work: UnitOfWork, ca: DeviceCa, row: DeviceRow, csr_pem: str, batch_public_key: str, life_: timedelta) -> CredentialRow:
    """A new certificate for `row`, beside the ones it has."""
    issued = ca.issue(parse_request(csr_pem), row.id, work.now, life_)
    credential = CredentialRow(
        fingerprint=issued.fingerprint, device=row.id, certificate_pem=issued.chain_pem, not_after=issued.not_after,
        batch_key_id=key_id(bytes.fromhex(batch_public_key)), batch_public_key=batch_public_key, revoked=False,
    )  # fmt: skip
    work.session.add(credential)
    work.session.flush()
    return credential


def new_device_id() -> str:
    """`dev-` and 26 base32 characters: 130 random bits."""
    return "dev-" + base64.b32encode(secrets.token_bytes(17)).decode().lower()[:26]


def _token(work: UnitOfWork, asked: EnrolmentRequest, request: Request) -> TokenRow:
    row = work.session.get(TokenRow, _secret_sha256(asked.token), with_for_update=True)
    if row is None:
        raise error("ENROL_TOKEN_UNKNOWN", "enrolment")
    if row.spent_key_sha256:
        if row.spent_key_sha256 != request.key_sha256:
            raise error("ENROL_TOKEN_SPENT", "enrolment")
        return row
    _check_unspent(row, str(asked.inventory.get("serial", "")), work.now)
    return row


def _check_unspent(row: TokenRow, serial: str, now: datetime) -> None:
    if row.expires_utc <= now:
        raise error("ENROL_TOKEN_EXPIRED", "enrolment", f"since {row.expires_utc.isoformat()}")
    if row.serial and row.serial != serial:
        raise error("ENROL_TOKEN_BINDING", "enrolment", f"this machine says serial {serial!r}")


def _secret_sha256(text: str) -> str:
    try:
        return sha256_hex(Token.parse(text).secret.encode())
    except ValueError as malformed:
        raise error("ENROL_TOKEN_UNKNOWN", "enrolment", "not an enrolment token") from malformed
