"""The update record: the one durable value from which an agent resumes. Written before each effect."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from contracts.states import TERMINAL, State

SCHEMA = 1
HISTORY = 8  # confirmed digests that are remembered
MAX_BAD = 64  # bad digests that are remembered, the newest fences first


@dataclass(frozen=True)
class Record:
    """`history`: digests that were CONFIRMED here, oldest first; the last one is the incumbent.

    `previous` is where a roll back of this execution goes ("" = no model).
    `bad` maps a digest that failed here to the fence under which it failed.
    """

    state: State = State.IDLE
    kind: str = ""  # install | rollback | local_rollback
    execution: str = ""
    fence: int = 0
    path: str = ""
    target: str = ""
    length: int = 0
    previous: str = ""
    activate: bool = False
    shadow_pairs: int = 0
    min_s: float = 0.0
    min_frames: int = 0
    deadlines: tuple[tuple[str, float], ...] = ()
    attempts: tuple[tuple[str, int], ...] = ()
    code: str = ""
    detail: str = ""
    history: tuple[str, ...] = ()
    bad: tuple[tuple[str, int], ...] = ()
    noted_generation: int = -1  # newest generation whose unknown kind was reported
    schema: int = SCHEMA

    @property
    def confirmed(self) -> str:
        return self.history[-1] if self.history else ""

    @property
    def terminal(self) -> bool:
        """Nothing is under way: a new order may begin."""
        return self.state is State.IDLE or self.state in TERMINAL

    @property
    def local(self) -> bool:
        return self.kind == "local_rollback"

    @property
    def live(self) -> str:
        """The digest that has to answer live frames in this state; "" for none."""
        if self.state is State.PROBATION:
            return self.target
        return self.previous if self.state is State.ROLLING_BACK else self.confirmed

    @property
    def candidate(self) -> str:
        """The digest that is tried beside the live one; "" for none."""
        return self.target if self.state is State.SHADOWING and self.live and self.shadow_pairs else ""

    @property
    def kept(self) -> frozenset[str]:
        """Slots that must not be deleted."""
        under_way = () if self.terminal else (self.target, self.previous)
        return frozenset({*self.history[-2:], *under_way} - {""})

    def attempts_in(self, state: State) -> int:
        return dict(self.attempts).get(state.value, 0)

    def deadline(self) -> float | None:
        """Seconds since 1970 UTC by which this state must be left."""
        return None if self.terminal else dict(self.deadlines).get(self.state.value)

    def bad_fence(self, digest: str) -> int | None:
        return dict(self.bad).get(digest)


def counted(record: Record) -> Record:
    """One more attempt at the work of the present state."""
    attempts = dict(record.attempts) | {record.state.value: record.attempts_in(record.state) + 1}
    return replace(record, attempts=tuple(sorted(attempts.items())))


def with_bad(record: Record, digest: str) -> Record:
    bad = dict(record.bad) | {digest: record.fence}
    newest = sorted(bad.items(), key=lambda item: (-item[1], item[0]))[:MAX_BAD]
    return replace(record, bad=tuple(newest))


def with_confirmed(record: Record) -> Record:
    """After a roll back what came later is forgotten, so that nothing returns to it by itself."""
    history = record.history
    if record.target in history:
        keep = history.index(record.target)
        history = history[:keep] if record.kind == "rollback" else tuple(one for one in history if one != record.target)
    return replace(record, history=(*history, record.target)[-HISTORY:])


def to_json(record: Record) -> str:
    return json.dumps({**asdict(record), "state": record.state.value}, sort_keys=True)


def from_json(text: str) -> Record:
    """Raises ValueError for a record of another schema version."""
    values: dict[str, Any] = json.loads(text)
    if values.get("schema") != SCHEMA:
        raise ValueError(f"update record of schema {values.get('schema')}, this agent reads {SCHEMA}")
    known = {field.name for field in fields(Record)}
    pairs = {name: tuple(tuple(pair) for pair in values[name]) for name in ("deadlines", "attempts", "bad")}
    rest = {name: value for name, value in values.items() if name in known and name not in pairs}
    return Record(**{**rest, **pairs, "state": State(values["state"]), "history": tuple(values["history"])})
