"""A person pauses, resumes or aborts a campaign. The word and all that follows from it are one transaction."""

from __future__ import annotations

from contracts.errors import error
from control_plane.domain.steering import Act, steered
from control_plane.services.advance_campaigns import carry_on
from control_plane.services.unit_of_work import Units
from control_plane.store import campaigns


def steer_campaign(units: Units, campaign: str, act: Act, actor: str, if_revision: int | None = None) -> None:
    """Raises CAMPAIGN_UNKNOWN, CAMPAIGN_STATE, and API_PRECONDITION when it is no longer at `if_revision`."""
    with units.write() as work:
        row = campaigns.must(work.session, campaign)
        if if_revision not in (None, row.revision):
            raise error("API_PRECONDITION", campaign, f"it is at revision {row.revision}")
        carry_on(work, row, steered(work.now, campaigns.load(work.session, row), act, actor), actor)
