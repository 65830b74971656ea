"""The states of a release, as a table, and the one function that moves it."""

from __future__ import annotations

from contracts.errors import error
from control_plane.services.unit_of_work import UnitOfWork
from control_plane.store.releases import ReleaseRow

BUILDING, BUILT, APPROVED, SIGNED, FAILED = "BUILDING", "BUILT", "APPROVED", "SIGNED", "FAILED"

# from       to        when
TRANSITIONS = {
    (BUILDING, BUILT),     # the builder's manifests are those of the job
    (BUILDING, FAILED),    # the builder gave a code, or left a profile out
    (BUILT, APPROVED),     # a pinned approver has signed the release's digest
    (APPROVED, SIGNED),    # the signer has published every manifest
    (APPROVED, BUILT),     # the signer does not accept the approval: another person may approve
    (APPROVED, FAILED),    # the signer refuses the content
}  # fmt: skip


def move(work: UnitOfWork, row: ReleaseRow, state: str, actor: str, *, code: str = "", detail: str = "", **data: object) -> None:
    """Change the state, with its event `release_<state>`. Raises BUILD_RELEASE_STATE for a step that is not in the table."""
    if (row.state, state) not in TRANSITIONS:
        raise error("BUILD_RELEASE_STATE", row.id, f"it is {row.state} and cannot become {state}")
    row.state, row.code, row.detail = state, code, detail
    refusal = {"code": code, "detail": detail} if code else {}
    work.event(f"release_{state.lower()}", row.id, actor, model_version=row.model_version, **refusal, **data)
