"""A release manager's signature, made where the person is. The only part of the CLI that loads `cryptography`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contracts.canonical import CONTEXT_APPROVAL, canonical_json, sha256_hex
from contracts.errors import error
from contracts.operator import ReleaseView
from contracts.release import Approval
from signatures.ed25519 import SigningKey


def approval_for(view: dict[str, Any], key: Path, expected_digest: str | None) -> dict[str, Any]:
    """The Approval for a ReleaseView. Raises BUILD_RELEASE_STATE, SIGNER_APPROVAL (another digest), CONFIG_MISSING, CONFIG_INVALID."""
    found = ReleaseView.model_validate(view)
    if found.release is None:
        raise error("BUILD_RELEASE_STATE", found.id, f"it is {found.state}: there is nothing to approve")
    message = canonical_json(found.release.model_dump(mode="json"))
    digest = sha256_hex(message)
    if expected_digest is not None and expected_digest != digest:
        raise error("SIGNER_APPROVAL", found.id, f"its digest is {digest}")
    signing = _load(key)
    signature = signing.sign(CONTEXT_APPROVAL, message).hex()
    return Approval(release_sha256=digest, key_id=signing.key_id, signature=signature).model_dump(mode="json")


def _load(path: Path) -> SigningKey:
    try:
        return SigningKey.from_pem(path.read_bytes())
    except OSError as unreadable:
        raise error("CONFIG_MISSING", str(path), str(unreadable.strerror)) from unreadable
    except (ValueError, TypeError) as broken:
        raise error("CONFIG_INVALID", str(path), f"not an Ed25519 key in PEM: {broken}") from broken
