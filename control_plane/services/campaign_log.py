"""What was decided on a campaign, as lines of the event log, in the transaction that writes it."""

from __future__ import annotations

from control_plane.domain.campaign import Campaign, Decision, Enter, EnterWave, Judge, Move, Prolong, Queue
from control_plane.services import orders
from control_plane.services.unit_of_work import SYSTEM, UnitOfWork

ENDINGS = {"SUCCEEDED": "campaign_succeeded", "ROLLED_BACK": "campaign_rolled_back"}


class CampaignLog:
    """`before`: the campaign as it was read; a verdict is written when it is another one than before."""

    def __init__(self, work: UnitOfWork, before: Campaign, release: str) -> None:
        self._work, self._release = work, release
        self._verdicts: dict[tuple[int, str], str] = {
            (wave.number, view.metric): view.verdict for wave in before.waves for view in wave.verdicts
        }  # fmt: skip

    def write(self, decision: Decision, then: Campaign, actor: str = SYSTEM) -> None:
        """`then`: the campaign right after `decision`. Orders write their own lines (orders.py)."""
        match decision:
            case Queue():
                orders.log_move(self._work, then.executions[-1])
            case Move():
                orders.log_move(self._work, next(one for one in then.executions if one.id == decision.execution))
            case Judge():
                self._judged(decision, then.id)
            case EnterWave():
                self._wave_moved(decision, then.id)
            case Prolong():
                self._work.event("wave_prolonged", then.id, actor, wave=decision.number, until_utc=decision.deadline_utc.isoformat())
            case Enter():
                self._moved(decision, then.id, actor)

    def _judged(self, decision: Judge, campaign: str) -> None:
        for view in decision.verdicts:
            if self._verdicts.get((decision.number, view.metric)) != view.verdict:
                self._verdicts[decision.number, view.metric] = view.verdict
                self._work.event("gate_judged", campaign, wave=decision.number, **view.model_dump(mode="json"))

    def _wave_moved(self, entered: EnterWave, campaign: str) -> None:
        self._work.event(
            "wave_moved", campaign, wave=entered.number, state=entered.state, devices=list(entered.devices),
            until_utc=entered.until_utc.isoformat() if entered.until_utc else None,
            code="CAMPAIGN_GATE" if entered.state == "FAILED" else "",
        )  # fmt: skip

    def _moved(self, entered: Enter, campaign: str, actor: str) -> None:
        self._work.event("campaign_moved", campaign, actor, state=entered.state, reason=entered.reason, release=self._release)
        if entered.state in ENDINGS:
            self._work.event(ENDINGS[entered.state], campaign, release=self._release)
