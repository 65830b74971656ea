"""DSSE envelopes (Dead Simple Signing Envelope v1): the signature covers the pre-authentication encoding of type and payload.

Parsing and encoding are securesystemslib's; which key is right is the caller's question. Errors are ValueError: callers
know which of their codes an unreadable or unsigned envelope is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError

IN_TOTO = "application/vnd.in-toto+json"
MAX_BYTES = 256 * 1024


def wrap(payload: bytes, key_id: str, sign: Callable[[bytes], bytes]) -> dict[str, Any]:
    """An envelope's JSON object over an in-toto `payload`; `sign` gets the bytes to be signed."""
    signature = sign(Envelope(payload, IN_TOTO, {}).pae())
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": IN_TOTO,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }


def parse_json(data: bytes) -> dict[str, Any]:
    """A JSON object of at most MAX_BYTES, without repeated keys (two readers must never see two meanings)."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    try:
        value = json.loads(data, object_pairs_hook=_unique)
    except RecursionError as deep:
        raise ValueError("nested too deep") from deep
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def unwrap(value: Any) -> tuple[bytes, str, bytes, bytes]:
    """(payload, key id, signature, signed bytes) of an envelope object with exactly one signature over an in-toto payload."""
    try:
        envelope = Envelope.from_dict(value)
        [(key_id, signature)] = envelope.signatures.items()
        raw_signature = bytes.fromhex(signature.signature)
    except (KeyError, TypeError, AttributeError, FormatError) as broken:
        raise ValueError(f"not a DSSE envelope: {broken}") from broken
    if envelope.payload_type != IN_TOTO:
        raise ValueError(f"payload type {envelope.payload_type!r}")
    return envelope.payload, key_id, raw_signature, envelope.pae()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated")
    return value
