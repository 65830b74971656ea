"""Make an enrolment token. Only its sha256 is kept; the token itself is shown once."""

from __future__ import annotations

import secrets
from datetime import timedelta

from contracts.canonical import sha256_hex
from contracts.enrolment import Token
from contracts.operator import TokenRequest
from control_plane.services.unit_of_work import Units
from control_plane.store.devices import TokenRow


def make_token(units: Units, ca_sha256: str, request: TokenRequest, actor: str) -> Token:
    token = Token(secret=secrets.token_urlsafe(32), ca_sha256=ca_sha256)
    digest = sha256_hex(token.secret.encode())
    with units.write() as work:
        expires = work.now + timedelta(seconds=request.valid_s)
        work.session.add(
            TokenRow(
                secret_sha256=digest, serial=request.serial or "", labels=request.labels,
                preregistered=request.preregistered, expires_utc=expires, spent_key_sha256="", request=None,
            )
        )  # fmt: skip
        work.event(
            "token_made", digest[:16], actor, serial=request.serial, labels=request.labels,
            preregistered=request.preregistered, expires_utc=expires.isoformat(),
        )  # fmt: skip
    return token
