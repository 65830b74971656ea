"""What the signer does for a request: gather bytes, ask decision.py, publish. One request at a time."""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from contracts.errors import error
from contracts.manifest import MANIFEST_MAX_BYTES, MODEL_SIGNATURE, PROVENANCE, Manifest
from contracts.release import KeysStatus, Release, Renew, SignerAnswer, SignRelease
from control_plane.signer import decision
from control_plane.signer.blobs import Blobs
from control_plane.signer.decision import Papers, Pins, Target
from control_plane.signer.publisher import Publisher
from signatures.dsse import MAX_BYTES, parse_json

Request = SignRelease | Renew | KeysStatus
_KINDS: dict[str, type[Request]] = {"sign_release": SignRelease, "renew": Renew, "status": KeysStatus}


def parse(data: bytes) -> Request:
    """RejectedError SIGNER_REQUEST for anything that is not exactly one known request."""
    try:
        value = parse_json(data)
        kind = _KINDS[str(value.get("op"))]
        return kind(**value)
    except KeyError as unknown:
        raise error("SIGNER_REQUEST", str(unknown)[:80], "unknown op") from unknown
    except (ValueError, ValidationError) as broken:
        raise error("SIGNER_REQUEST", detail=str(broken)[:500]) from broken


class Signer:
    def __init__(self, blobs: Blobs, pins: Pins, publisher: Publisher) -> None:
        self._blobs, self._pins, self.publisher = blobs, pins, publisher

    def answer(self, request: Request, now: datetime) -> SignerAnswer:
        """Do what is asked; raises the SkerryError of what forbids it, and then nothing was signed."""
        if isinstance(request, SignRelease):
            self._sign(request, now)
        elif isinstance(request, Renew):
            self.publisher.renew(now)
        return self._status()

    def _sign(self, request: SignRelease, now: datetime) -> None:
        decision.check_approval(request.release, request.approval, self._pins)
        if not request.release.manifests:
            raise error("SIGNER_MANIFEST", request.release.id, "a release without manifests")
        targets = [self._admit(request.release, profile) for profile in sorted(request.release.manifests)]
        self.publisher.publish(targets, now)

    def _admit(self, release: Release, profile: str) -> Target:
        data = self._blobs.read(release.manifests[profile], MANIFEST_MAX_BYTES)
        manifest = decision.read_manifest(release, profile, data)
        for name, member in manifest.members.items():
            decision.check_member(name, member, self._blobs.measure(member.sha256, member.length))
        return decision.admit(data, manifest, self._papers(manifest), self._pins, self.publisher.record.signed)

    def _papers(self, manifest: Manifest) -> Papers:
        provenance, signature = (self._blobs.read(manifest.members[name].sha256, MAX_BYTES) for name in (PROVENANCE, MODEL_SIGNATURE))
        return Papers(provenance, signature)

    def _status(self) -> SignerAnswer:
        current = self.publisher.repository.current()
        return SignerAnswer(
            ok=True,
            versions={role: signed.version for role, signed in current.items()},
            expires_utc={role: signed.expires.isoformat() for role, signed in current.items()},
        )
