"""Asks skerry-signer over its Unix socket: u32 length (little-endian) + JSON, one connection per question.

The answer is believed as far as "the signer says so": what it signed is checked by the devices, against offline roots.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from pydantic import BaseModel, ValidationError

from contracts.canonical import canonical_json
from contracts.errors import CODES, LocalFaultError, error
from contracts.release import SIGNER_MAX_BYTES, Approval, KeysStatus, Release, Renew, SignerAnswer, SignRelease

_LENGTH = struct.Struct("<I")
TIMEOUT_S = 60.0  # the signer hashes every member of every profile


class SignerClient:
    """Calls block, at most `timeout_s` per read: never from the event loop.

    Raises TransientError SIGNER_UNREACHABLE when nobody answers (whether it signed is then unknown; asking again is
    harmless) or when its own machine is at fault, else the error whose code the signer gives.
    """

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path, self._timeout_s = path, timeout_s

    def sign_release(self, release: Release, approval: Approval) -> SignerAnswer:
        return self._ask(SignRelease(release=release, approval=approval))

    def renew(self) -> SignerAnswer:
        return self._ask(Renew())

    def status(self) -> SignerAnswer:
        return self._ask(KeysStatus())

    def _ask(self, request: BaseModel) -> SignerAnswer:
        answer = self._parse(self._exchange(canonical_json(request.model_dump(mode="json"))))
        if not answer.ok:
            code = answer.code if answer.code in CODES else "SIGNER_REQUEST"
            if CODES[code].kind is LocalFaultError:  # of the signer's machine, not of ours: it may be mended, and is asked again
                raise error("SIGNER_UNREACHABLE", "signer", answer.detail)
            raise error(code, "signer", answer.detail.removeprefix(f"{code}: "))
        return answer

    def _exchange(self, body: bytes) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(self._timeout_s)
                connection.connect(str(self._path))
                connection.sendall(_LENGTH.pack(len(body)) + body)
                (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size))
                return _read(connection, min(length, SIGNER_MAX_BYTES))
        except OSError as failed:
            raise error("SIGNER_UNREACHABLE", str(self._path), str(failed)) from failed

    def _parse(self, body: bytes) -> SignerAnswer:
        try:
            return SignerAnswer.model_validate_json(body)
        except ValidationError as broken:
            raise error("SIGNER_UNREACHABLE", str(self._path), f"no answer of a signer: {broken}") from broken


def _read(connection: socket.socket, length: int) -> bytes:
    """Exactly `length` bytes; ConnectionError when the other side ends before."""
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise ConnectionResetError("the signer closed the connection")
        parts += part
    return bytes(parts)
