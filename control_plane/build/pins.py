"""The builder's key and its pins, read once at start. LocalFaultError CONFIG_INVALID names the file that is not in order."""

from __future__ import annotations

from pathlib import Path

from contracts.errors import error
from signatures.ed25519 import SigningKey
from signatures.model_signature import pinned


def read_model_keys(path: Path) -> dict[str, str]:
    """Key id -> PEM of each key in the file."""
    try:
        return pinned(path.read_text())
    except (OSError, ValueError) as broken:
        raise error("CONFIG_INVALID", str(path), str(broken)) from broken


def read_signing_key(path: Path) -> SigningKey:
    try:
        return SigningKey.from_pem(path.read_bytes())
    except (OSError, ValueError) as broken:
        raise error("CONFIG_INVALID", str(path), str(broken)) from broken
