"""Bytes that are signed or hashed: one canonical form, and one context string per kind of signature."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Ed25519 signatures of Skerry's own messages cover `context + message`, so that one kind is never taken for another.
CONTEXT_BATCH = b"skerry/1/batch\0"
CONTEXT_ACK = b"skerry/1/ack\0"
CONTEXT_NACK = b"skerry/1/nack\0"
CONTEXT_BATCH_KEY = b"skerry/1/batch-key\0"
CONTEXT_APPROVAL = b"skerry/1/approval\0"
SIGNATURE_BYTES = 64


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no white space, UTF-8. Signed bytes are kept as received and never serialised again."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def key_id(public_key: bytes) -> str:
    """Name of a raw 32-byte Ed25519 public key: the first 16 hex digits of its sha256."""
    return sha256_hex(public_key)[:16]


def seal(payload: bytes, signature: bytes) -> bytes:
    """A signed message on the wire: the payload, then 64 bytes of signature."""
    return payload + signature


def unseal(message: bytes) -> tuple[bytes, bytes]:
    """(payload, signature); ValueError when it is too short to hold a signature."""
    if len(message) <= SIGNATURE_BYTES:
        raise ValueError("message is shorter than its signature")
    return message[:-SIGNATURE_BYTES], message[-SIGNATURE_BYTES:]
