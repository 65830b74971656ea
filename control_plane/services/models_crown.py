"""Follows campaigns to their end: success makes the model version `champion`, a roll back takes `candidate` back to it.

The follower's place in the event log is written in the transaction of its effect, after the registry's alias was moved.
Dying between the two moves the same alias to the same version again.
"""

from __future__ import annotations

from contracts.errors import RejectedError
from contracts.operator import EventView
from control_plane.services.models import Models
from control_plane.services.models_port import CANDIDATE, CHAMPION
from control_plane.store import events, releases
from program.log import Log

SUCCEEDED, ROLLED_BACK = "campaign_succeeded", "campaign_rolled_back"
_FOLLOWER = "champion"
_PAGE = 500


class Crown:
    def __init__(self, models: Models, log: Log) -> None:
        self._models, self._log = models, log
        with models.units.read() as session:
            self._seq = releases.followed(session, _FOLLOWER)

    def follow(self) -> None:
        """Act on every campaign that ended since the last call."""
        while lines := self._read():
            for line in lines:
                if line.event in (SUCCEEDED, ROLLED_BACK):
                    self._act(line)
                self._seq = line.seq

    def _read(self) -> list[EventView]:
        with self._models.units.read() as session:
            return events.read(session, self._seq, _PAGE)

    def _act(self, line: EventView) -> None:
        try:
            self._crown(line) if line.event == SUCCEEDED else self._take_back(line)
        except RejectedError as refused:  # the version was deleted in the registry: nothing that a retry could mend
            self._log.alarm("alias_not_moved", campaign_id=line.subject, code=refused.code, detail=str(refused))
        with self._models.units.write() as work:
            releases.follow(work.session, _FOLLOWER, line.seq)

    def _model_version(self, line: EventView) -> tuple[str, int]:
        with self._models.units.read() as session:
            row = releases.must_release(session, line.data["release"])
        name, _, number = row.model_version.removeprefix("model:").rpartition("/")
        return name, int(number)

    def _crown(self, line: EventView) -> None:
        name, number = self._model_version(line)
        self._models.move_alias(name, CHAMPION, number, f"campaign:{line.subject}")

    def _take_back(self, line: EventView) -> None:
        """Only where `candidate` still names what was rolled back, and where there is a champion to return to."""
        name, number = self._model_version(line)
        aliases = self._models.registry.aliases(name)
        if aliases.get(CANDIDATE) == number and CHAMPION in aliases:
            self._models.move_alias(name, CANDIDATE, aliases[CHAMPION], f"campaign:{line.subject}")
