"""What a person may do to a campaign, as a table. Anything else is refused with CAMPAIGN_STATE.

- pause: nothing new is begun and no leave to activate is given; what was not activated yet is taken back, the rest finishes.
- resume: the open wave goes on, with its whole time again; who was taken back is asked anew, by a new execution.
- abort: like pause, and for good.

A roll back is not interrupted. A campaign that a gate has paused has a FAILED wave, and a verdict is not overruled by `resume`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from contracts.errors import error
from contracts.operator import CampaignState
from control_plane.domain.campaign import Campaign, Decision, Enter, Prolong, current_wave

Act = Literal["pause", "resume", "abort"]

# fmt: off
ACTS: dict[tuple[CampaignState, Act], CampaignState] = {
    ("RUNNING", "pause"):  "PAUSED",
    ("PAUSED",  "resume"): "RUNNING",
    ("RUNNING", "abort"):  "ABORTED",
    ("PAUSED",  "abort"):  "ABORTED",
}
# fmt: on


def steered(now: datetime, campaign: Campaign, act: Act, actor: str) -> list[Decision]:
    """What `act` decides. Raises CAMPAIGN_STATE where the table has no row, or a failed wave stands in the way."""
    if (campaign.state, act) not in ACTS:
        raise error("CAMPAIGN_STATE", campaign.id, f"{act} is not possible: it is {campaign.state}")
    if act == "resume" and (failed := [wave.number for wave in campaign.waves if wave.state == "FAILED"]):
        raise error("CAMPAIGN_STATE", campaign.id, f"wave {failed[0]} has failed: make a new campaign")
    wave, decided = current_wave(campaign), Enter(ACTS[campaign.state, act], f"{act} by {actor}")
    if act != "resume" or wave is None:
        return [decided]
    return [decided, Prolong(wave.number, now + timedelta(seconds=campaign.policy.wave_deadline_s))]
