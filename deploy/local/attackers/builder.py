"""Who has taken over the control plane and wants his own bundle signed: he has its database and its blob folder, and a builder's key
of his own that nobody pins.

    python -m deploy.local.attackers.builder --database FILE --blobs DIR --release digits_line-2 --key FILE

Makes a release out of a signed one: the same members, manifests and provenance anew under his key, an approval by his key too. Writes it
into the database as approved, and his key into FILE; prints the release's id.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.dsse import Envelope

from contracts.canonical import CONTEXT_APPROVAL, canonical_json, key_id, sha256_hex
from contracts.manifest import CHUNK_BYTES, PROVENANCE
from contracts.release import Release

BODY = "manifest:body"  # the provenance's subject that stands for the manifest
BUSY_S = 10.0


class Builder:
    def __init__(self, blobs: Path, private: Ed25519PrivateKey) -> None:
        self._blobs, self._private = blobs, private
        self.key_id = key_id(private.public_key().public_bytes_raw())

    def manifest(self, digest: str, number: int) -> str:
        """The manifest of `digest` under another number, with provenance by this key; its digest."""
        manifest = json.loads(self._read(digest))
        provenance = self._read(manifest["members"].pop(PROVENANCE)["sha256"])
        manifest["number"] = number
        forged = self._provenance(json.loads(provenance), sha256_hex(canonical_json(manifest)), number)
        self._write(forged)
        manifest["members"][PROVENANCE] = _member(forged)
        return self._write(canonical_json(manifest))

    def _provenance(self, envelope: dict[str, Any], body_sha256: str, number: int) -> bytes:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        for subject in statement["subject"]:
            if subject["name"] == BODY:
                subject["digest"]["sha256"] = body_sha256
        statement["predicate"]["buildDefinition"]["externalParameters"]["number"] = number
        payload = json.dumps(statement, sort_keys=True).encode()
        signature = self._private.sign(Envelope(payload, envelope["payloadType"], {}).pae())
        signed = {"keyid": self.key_id, "sig": base64.b64encode(signature).decode()}
        return canonical_json({**envelope, "payload": base64.b64encode(payload).decode(), "signatures": [signed]})

    def approval(self, release: Release) -> dict[str, str]:
        message = canonical_json(release.model_dump(mode="json"))
        signature = self._private.sign(CONTEXT_APPROVAL + message).hex()
        return {"release_sha256": sha256_hex(message), "key_id": self.key_id, "signature": signature}

    def _read(self, digest: str) -> bytes:
        return (self._blobs / digest[:2] / digest).read_bytes()

    def _write(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self._blobs / digest[:2] / digest
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o644)
        return digest


def _member(data: bytes) -> dict[str, Any]:
    chunks = [sha256_hex(data[start : start + CHUNK_BYTES]) for start in range(0, len(data), CHUNK_BYTES)]
    return {"sha256": sha256_hex(data), "length": len(data), "chunks": chunks}


def slip_in(database: Path, release_id: str, builder: Builder) -> Release:
    """The forged release, APPROVED in the control plane's own database."""
    with sqlite3.connect(database, timeout=BUSY_S) as control:
        name, model_version, manifests = control.execute(
            "SELECT name, model_version, manifests FROM releases WHERE id = ?", (release_id,)
        ).fetchone()
        number = 1 + control.execute("SELECT max(number) FROM releases WHERE name = ?", (name,)).fetchone()[0]
        forged = {profile: builder.manifest(digest, number) for profile, digest in json.loads(manifests).items()}
        release = Release(name=name, number=number, manifests=forged)
        now = datetime.now(timezone.utc).replace(tzinfo=None).isoformat(sep=" ")
        control.execute(
            "INSERT INTO releases (id, name, number, state, model_version, manifests, approval, code, detail, created_utc)"
            " VALUES (?, ?, ?, 'APPROVED', ?, ?, ?, '', '', ?)",
            (release.id, name, number, model_version, json.dumps(forged), json.dumps(builder.approval(release)), now),
        )
    return release


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.attackers.builder", description=__doc__)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--blobs", type=Path, required=True)
    parser.add_argument("--release", required=True)
    parser.add_argument("--key", type=Path, required=True)
    options = parser.parse_args()
    private = Ed25519PrivateKey.generate()
    release = slip_in(options.database, options.release, Builder(options.blobs, private))
    options.key.touch(mode=0o644)  # so that the story can show that the front door refuses it too
    options.key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    print(json.dumps({"release": release.id, "manifests": release.manifests}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
