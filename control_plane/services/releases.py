"""Showing, approving and signing releases.

Four eyes: the builder's key made the content, a person's key approves it, the signer's keys publish it. Here nothing is
trusted or made up: an approval is looked at early so that a mistake is met at once, and judged again by the signer.
"""

from __future__ import annotations

from typing import Protocol

from contracts.canonical import CONTEXT_APPROVAL, canonical_json, key_id, sha256_hex
from contracts.errors import RejectedError, TransientError, TrustError, error
from contracts.manifest import Manifest
from contracts.operator import ReleaseView
from contracts.release import Approval, Release, SignerAnswer
from control_plane.adapters.blobs import BlobStore
from control_plane.services.releases_state import APPROVED, BUILT, FAILED, SIGNED, move
from control_plane.services.unit_of_work import SYSTEM, UnitOfWork, Units
from control_plane.store import releases
from control_plane.store.base import Session
from control_plane.store.releases import ReleaseRow
from signatures.ed25519 import verify

_APPROVAL_REFUSED = "SIGNER_APPROVAL"


class Signer(Protocol):
    """adapters/signer_client.py. Raises SIGNER_UNREACHABLE or the signer's refusal."""

    def sign_release(self, release: Release, approval: Approval) -> SignerAnswer: ...


def view(row: ReleaseRow) -> ReleaseView:
    return ReleaseView.model_validate(
        {
            "id": row.id, "state": row.state, "model_version": row.model_version, "code": row.code, "detail": row.detail,
            "release": _release(row) if row.manifests else None,
        }
    )  # fmt: skip


def _release(row: ReleaseRow) -> Release:
    return Release(name=row.name, number=row.number, manifests=row.manifests)


def all_releases(session: Session) -> list[ReleaseView]:
    """Newest first."""
    return [view(row) for row in releases.releases(session)]


def one_release(session: Session, release_id: str) -> ReleaseView:
    """Raises API_NOT_FOUND."""
    return view(releases.must_release(session, release_id))


def release_digest(release: Release) -> str:
    """What a person approves: sha256 over the release's canonical JSON."""
    return sha256_hex(canonical_json(release.model_dump(mode="json")))


class Approvers:
    """The pinned approvers' raw public keys, by key id."""

    def __init__(self, public_keys: tuple[bytes, ...]) -> None:
        self._keys = {key_id(key): key for key in public_keys}

    def check(self, release: Release, approval: Approval) -> None:
        """Raises SIGNER_APPROVAL when the signer would."""
        if approval.release_sha256 != release_digest(release):
            raise error(_APPROVAL_REFUSED, release.id, "the approval names another release or other manifests")
        key = self._keys.get(approval.key_id)
        message = canonical_json(release.model_dump(mode="json"))
        if key is None or not verify(key, CONTEXT_APPROVAL, message, _signature(approval)):
            raise error(_APPROVAL_REFUSED, release.id, f"not by a pinned approver (key {approval.key_id})")


def _signature(approval: Approval) -> bytes:
    try:
        return bytes.fromhex(approval.signature)
    except ValueError:
        return b""


def approve(units: Units, approvers: Approvers, release_id: str, approval: Approval, actor: str) -> ReleaseView:
    """Store the approval; the release is APPROVED. Approving an approved or signed release again changes nothing.

    Raises API_NOT_FOUND, BUILD_RELEASE_STATE, SIGNER_APPROVAL.
    """
    with units.write() as work:
        row = releases.must_release(work.session, release_id)
        if not row.manifests:
            raise error("BUILD_RELEASE_STATE", row.id, f"it is {row.state}: there is nothing to approve")
        approvers.check(_release(row), approval)
        if row.state not in (APPROVED, SIGNED):
            row.approval = approval.model_dump(mode="json")
            move(work, row, APPROVED, actor, approver_key=approval.key_id, release_sha256=approval.release_sha256)
        return view(row)


def sign(units: Units, signer: Signer, blobs: BlobStore, release_id: str) -> ReleaseView:
    """Have an APPROVED release signed; in any other state nothing happens. Safe to repeat: the signer refuses other content
    under a number it has signed, and answers the same for the same.

    Raises SIGNER_UNREACHABLE (the release stays APPROVED and is tried again) and the signer's refusals, after recording them.
    """
    with units.read() as session:
        row = releases.must_release(session, release_id)
        if row.state != APPROVED:
            return view(row)
        release, approval = _release(row), Approval.model_validate(row.approval)
    try:
        answer = signer.sign_release(release, approval)
    except TransientError as unreachable:
        _note(units, release_id, unreachable)
        raise
    except (RejectedError, TrustError) as refused:
        _refused(units, release_id, refused)
        raise
    return _signed(units, blobs, release, answer.versions)


def _note(units: Units, release_id: str, waiting: TransientError) -> None:
    """Say once what an approved release waits for."""
    with units.write() as work:
        row = releases.must_release(work.session, release_id)
        if row.state == APPROVED and row.code != waiting.code:
            row.code, row.detail = waiting.code, str(waiting)
            work.event("release_waits", row.id, SYSTEM, code=waiting.code)


def _refused(units: Units, release_id: str, refused: RejectedError | TrustError) -> None:
    with units.write() as work:
        row = releases.must_release(work.session, release_id)
        if row.state == APPROVED:
            state = BUILT if refused.code == _APPROVAL_REFUSED else FAILED
            move(work, row, state, SYSTEM, code=refused.code, detail=str(refused))


def _signed(units: Units, blobs: BlobStore, release: Release, versions: dict[str, int]) -> ReleaseView:
    with units.write() as work:
        row = releases.must_release(work.session, release.id)
        if row.state == APPROVED:
            _publish(work, row, blobs, versions)
        return view(row)


def _publish(work: UnitOfWork, row: ReleaseRow, blobs: BlobStore, versions: dict[str, int]) -> None:
    for digest in row.manifests.values():
        raw = blobs.read(digest)
        releases.add_signed(work.session, row.id, digest, raw, Manifest.model_validate_json(raw))
    move(work, row, SIGNED, SYSTEM, manifests=dict(row.manifests), image_versions=versions)
