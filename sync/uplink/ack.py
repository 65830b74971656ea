"""From bytes on the ack topic to an Ack that may be believed: signature first, then the JSON is read. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from contracts.batch import Ack, Nack
from contracts.canonical import CONTEXT_ACK, CONTEXT_NACK, unseal
from contracts.errors import error
from signatures.ed25519 import verify

MAX_ACK_BYTES = 64 * 1024
Told = TypeVar("Told", Ack, Nack)


def open_ack(message: bytes, keys: Mapping[str, bytes], device: str) -> Ack:
    """`keys`: key id -> raw public key, as the assignment pins them.

    Raises TrustError ACK_SIGNATURE (too long, not signed by one of `keys`, or not an ack) or ACK_DEVICE.
    """
    return _open(Ack, CONTEXT_ACK, message, keys, device)


def open_nack(message: bytes, keys: Mapping[str, bytes], device: str) -> Nack:
    """As open_ack, for the nack topic."""
    return _open(Nack, CONTEXT_NACK, message, keys, device)


def _open(model: type[Told], context: bytes, message: bytes, keys: Mapping[str, bytes], device: str) -> Told:
    if len(message) > MAX_ACK_BYTES:
        raise error("ACK_SIGNATURE", device, f"{len(message)} bytes")
    try:
        payload, signature = unseal(message)
    except ValueError as short:
        raise error("ACK_SIGNATURE", device, str(short)) from short
    signers = [key_id for key_id, public in keys.items() if verify(public, context, payload, signature)]
    if not signers:
        raise error("ACK_SIGNATURE", device, "by no pinned key")
    return _read(model, payload, signers, device)


def _read(model: type[Told], payload: bytes, signers: list[str], device: str) -> Told:
    try:
        told = model.model_validate_json(payload)
    except ValidationError as broken:
        raise error("ACK_SIGNATURE", device, f"signed, but not readable: {broken}") from broken
    if told.key_id not in signers:
        raise error("ACK_SIGNATURE", device, f"names key {told.key_id}, signed by {signers[0]}")
    if told.device != device:
        raise error("ACK_DEVICE", told.device)
    return told
