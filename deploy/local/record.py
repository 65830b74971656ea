"""What the story proved, as data. The table a person sees is a rendering of exactly this JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Proof:
    """One line of the record. `event_no` is the number of the event that was waited for, in the log named by `source`."""

    step: str  # setup, a, b ...
    what: str
    ok: bool
    seconds: float = 0.0
    source: str = ""  # operators' log, supervisor, device, lake
    event_no: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    detail: str = ""


@dataclass
class Record:
    """The whole run. `ok` when every proof is."""

    proofs: list[Proof] = field(default_factory=list)
    programs: list[dict[str, Any]] = field(default_factory=list)  # name, uid, pid, restarts, planned_restarts, rss, pss ...
    timings_s: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return bool(self.proofs) and all(proof.ok for proof in self.proofs)

    def as_json(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_json(), indent=1, default=str) + "\n")


def table(record: dict[str, Any]) -> list[tuple[str, str, str, str, str, str]]:
    """Rows (step, what, event, figures, seconds, verdict) of the JSON form of a record."""
    return [
        (
            proof["step"],
            proof["what"],
            "" if proof["event_no"] is None else f"{proof['source']} #{proof['event_no']}",
            ", ".join(f"{name} {_short(value)}" for name, value in proof["figures"].items()),
            f"{proof['seconds']:.1f}",
            "ok" if proof["ok"] else f"FAILED {proof['code']}".rstrip(),
        )
        for proof in record["proofs"]
    ]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_short(part) for part in value) + "]"
    if isinstance(value, dict):
        return " ".join(f"{name}={_short(part)}" for name, part in value.items())
    return str(value)
