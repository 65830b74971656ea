"""Fresh, duplicate or gap: what a numbered record means to one who has committed everything up to `watermark`. PURE.

A record stands for seq..last_seq (one number for rows, a range for a GAP record). Records of a stream are
committed in order and without holes, so there are four answers:

    last_seq <= watermark              DUPLICATE   committed before: drop it, acknowledge again
    seq == watermark + 1               FRESH       the next one
    seq >  watermark + 1               AHEAD       something before it is missing: it must wait
    seq <= watermark < last_seq        OVERLAP     only a lying or copied device makes this: refuse it
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar


class Verdict(Enum):
    FRESH = "fresh"
    DUPLICATE = "duplicate"
    AHEAD = "ahead"
    OVERLAP = "overlap"


class Numbered(Protocol):
    @property
    def seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...


N = TypeVar("N", bound=Numbered)


@dataclass(frozen=True)
class Plan(Generic[N]):
    """`fresh` continues the watermark without a hole, in order; the others are in order of arrival."""

    fresh: tuple[N, ...]
    duplicates: tuple[N, ...]
    ahead: tuple[N, ...]
    overlaps: tuple[N, ...]


def judge(watermark: int, seq: int, last_seq: int) -> Verdict:
    """Raises ValueError when seq..last_seq is not a range of positive numbers: the header's model lets none such through."""
    if not 1 <= seq <= last_seq:
        raise ValueError(f"{seq}..{last_seq} is not a range")
    if last_seq <= watermark:
        return Verdict.DUPLICATE
    if seq == watermark + 1:
        return Verdict.FRESH
    return Verdict.AHEAD if seq > watermark else Verdict.OVERLAP


def plan(watermark: int, records: Iterable[N]) -> Plan[N]:
    """Sort out the records of one stream, whatever their order; of two that say the same, the later one is a duplicate."""
    found: dict[Verdict, list[N]] = {verdict: [] for verdict in Verdict}
    for record in sorted(records, key=lambda each: each.seq):
        verdict = judge(watermark, record.seq, record.last_seq)
        found[verdict].append(record)
        if verdict is Verdict.FRESH:
            watermark = record.last_seq
    return Plan(*(tuple(found[verdict]) for verdict in (Verdict.FRESH, Verdict.DUPLICATE, Verdict.AHEAD, Verdict.OVERLAP)))
