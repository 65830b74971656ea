"""Ed25519 over `context + message` (RFC 8032), for batches, acks, nacks and approvals. Contexts: contracts/canonical.py."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from contracts.canonical import key_id


class SigningKey:
    """An Ed25519 private key; `key_id` names its public half on the wire."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        self.key_id = key_id(self.public)

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        private = load_pem_private_key(pem, password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 private key")
        return cls(private)

    def sign(self, context: bytes, message: bytes) -> bytes:
        return self._private.sign(context + message)


def verify(public: bytes, context: bytes, message: bytes, signature: bytes) -> bool:
    """True when `signature` is by the raw 32-byte `public` key over `context + message`."""
    return verify_raw(public, context + message, signature)


def verify_raw(public: bytes, signed: bytes, signature: bytes) -> bool:
    """The same without a context, for formats that separate kinds by themselves (DSSE)."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True
