"""The signer's private keys and its pins, read once at start."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from contracts.canonical import key_id
from contracts.errors import error
from control_plane.signer.decision import Pins
from signatures import model_signature


def read_keys(folder: Path) -> dict[str, CryptoSigner]:
    """Role -> key, of every `<role>.pem`. LocalFaultError CONFIG_INVALID when one is unreadable or no Ed25519 key."""
    return {path.stem: _signer(path) for path in sorted(_listed(folder))}


def read_pins(folder: Path) -> Pins:
    """`builder.pub` and `approver.pub` hold one key per line (64 hex digits), `model-signing.pub.pem` one or more PEM keys."""
    return Pins(
        builders=_ed25519(folder / "builder.pub"),
        approvers=_ed25519(folder / "approver.pub"),
        model_keys=_model_keys(folder / "model-signing.pub.pem"),
    )


def _model_keys(path: Path) -> dict[str, str]:
    """Key id -> PEM of each key in the file."""
    try:
        return model_signature.pinned(path.read_text())
    except (OSError, ValueError) as broken:
        raise error("CONFIG_INVALID", str(path), str(broken)) from broken


def _ed25519(path: Path) -> dict[str, bytes]:
    try:
        keys = [bytes.fromhex(line) for line in path.read_text().split()]
    except (OSError, ValueError) as broken:
        raise error("CONFIG_INVALID", str(path), str(broken)) from broken
    if not keys or any(len(key) != 32 for key in keys):
        raise error("CONFIG_INVALID", str(path), "expected 64 hex digits per line")
    return {key_id(key): key for key in keys}


def _listed(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.suffix == ".pem"]
    except OSError as unreadable:
        raise error("CONFIG_INVALID", str(folder), str(unreadable)) from unreadable
    if not {"snapshot", "timestamp"} <= {path.stem for path in found}:
        raise error("CONFIG_INVALID", str(folder), "snapshot.pem or timestamp.pem is missing")
    return found


def _signer(path: Path) -> CryptoSigner:
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as broken:
        raise error("CONFIG_INVALID", str(path), str(broken)) from broken
    if not isinstance(private, Ed25519PrivateKey):
        raise error("CONFIG_INVALID", str(path), "not an Ed25519 key")
    return CryptoSigner(private)
