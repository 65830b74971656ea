"""Abort: no device begins anything more for this campaign; what has been activated is left to finish."""

from __future__ import annotations

from contracts.errors import error
from control_plane.domain.campaign import TRANSITIONS
from control_plane.services.advance_campaigns import advance_campaign
from control_plane.services.unit_of_work import Units
from control_plane.store import campaigns


def abort_campaign(units: Units, campaign: str, actor: str) -> None:
    """Raises CAMPAIGN_UNKNOWN, CAMPAIGN_STATE when it has ended or is rolling back."""
    with units.write() as work:
        row = campaigns.must(work.session, campaign)
        if "ABORTED" not in TRANSITIONS[row.state]:
            raise error("CAMPAIGN_STATE", campaign, f"it is {row.state}")
        row.state, row.reason, row.revision = "ABORTED", f"by {actor}", row.revision + 1
        work.event("campaign_moved", campaign, actor, state="ABORTED", reason=row.reason, release=row.release)
    advance_campaign(units, campaign)
