"""What a verdict is worth: how often the gates stop a candidate that is worse, and one that is not, when they are looked at thirty times.

Runs are drawn at random and put to the very `judge` that campaigns use. Beside it stands the usual test, which is right for one look.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.operator import Gate
from contracts.states import State
from control_plane.domain.agreement import Estimate, Expected, expected
from control_plane.domain.evidence import Evidence
from control_plane.domain.execution import Execution
from control_plane.domain.gates import Judged, judge
from processing import latency

LOOKS, A_LOOK = 30, 70  # 2,100 pairs
AGREEMENT, DROP = 0.95, 0.03
MARGIN = Gate(metric="agreement", limit=DROP, min_samples=A_LOOK)
P95 = Gate(metric="latency_p95_us", limit=latency.EDGES_US[latency.bucket(20_000)], min_samples=A_LOOK)
FOUND, FALSE_ALARMS = 0.95, 0.01
HELD_OUT = (1_080, 10_000, 100_000)
_SEED, _Z99 = 20_26, 2.326

Verdict = Callable[[int, int], str]  # of so many hits in so many samples


def figures(runs: int = 20_000) -> list[dict[str, Any]]:
    known = agreement_verdict(Expected(AGREEMENT, AGREEMENT))
    good, bad = drawn(AGREEMENT, runs), drawn(AGREEMENT - DROP, runs)
    of_good, of_bad, by_one_look = verdicts(good, known), verdicts(bad, known), verdicts(good, one_look)
    lines = [
        _line("a drop of 3 points fails", of_bad["failed"], f">= {FOUND:.0%}", of_bad["failed"] >= FOUND),
        _line("a drop of 3 points passes", of_bad["passed"]),
        _line("no drop fails", of_good["failed"], f"<= {FALSE_ALARMS:.0%}", of_good["failed"] <= FALSE_ALARMS),
        _line("no drop passes", of_good["passed"]),
        _line("no drop fails, by a test for one look at each of them", by_one_look["failed"]),
    ]
    for samples in HELD_OUT:
        lines += _by_held_out(samples, runs)
    return lines + [_line(*one) for one in _of_latency(runs)]


def _line(name: str, share: float, goal: str = "", holds: bool | None = None, against: str = "") -> dict[str, Any]:
    return {"name": name, "value": round(share * 100, 2), "unit": "% of runs", "goal": goal, "holds": holds, "against": against}


def drawn(share: float, runs: int, salt: int = 0) -> NDArray[np.int64]:
    """Hits among all samples up to each look, [runs, LOOKS]."""
    random = np.random.default_rng([_SEED, round(share * 1e6), salt])
    return np.cumsum(random.binomial(A_LOOK, share, (runs, LOOKS)), axis=1)


def verdicts(hits: NDArray[np.int64], verdict: Verdict) -> dict[str, float]:
    """Share of the runs by their first verdict; `waiting`: none at any look, which a deadline makes a failure."""
    found, open_runs = Counter({"passed": 0, "failed": 0}), hits
    for look in range(LOOKS):
        counts, where = np.unique(open_runs[:, look], return_inverse=True)
        said = np.array([verdict(int(count), (look + 1) * A_LOOK) for count in counts], dtype=object)[where]
        for word in ("passed", "failed"):
            found[word] += int((said == word).sum())
        open_runs = open_runs[said == "waiting"]
        if not len(open_runs):
            break
    found["waiting"] = len(open_runs)
    return {word: count / len(hits) for word, count in found.items()}


def agreement_verdict(held_against: Expected) -> Verdict:
    def verdict(agreed: int, pairs: int) -> str:
        return judge(MARGIN, _wave(Evidence(pairs=pairs, agreed=agreed), {"d": held_against})).verdict

    return verdict


def latency_verdict(slow: int, frames: int) -> str:
    """`slow` frames took longer than the limit."""
    counts = latency.empty()
    counts[latency.bucket(1_000)], counts[latency.bucket(50_000)] = frames - slow, slow
    return judge(P95, _wave(Evidence(frames=frames, latency=tuple(counts)), {})).verdict


def _wave(evidence: Evidence, held_against: dict[str, Expected]) -> Judged:
    one = Execution("c/d/1", "d", 1, "install", "new", "old", 1, State.SHADOWING, evidence=evidence)
    return Judged(("d",), (one,), 1, held_against)


def one_look(agreed: int, pairs: int) -> str:
    """The usual test at 1 %: right when it is made once."""
    behind = (AGREEMENT - agreed / pairs) / sqrt(AGREEMENT * (1 - AGREEMENT) / pairs)
    return "failed" if behind > _Z99 else "waiting"


def _by_held_out(samples: int, runs: int, sets: int = 40) -> list[dict[str, Any]]:
    """The expected agreement measured on a held-out set, another one in each of `sets` parts of the runs."""
    random, words = np.random.default_rng([_SEED, samples]), {"failed": "fails", "passed": "passes"}
    seen: defaultdict[tuple[str, str], float] = defaultdict(float)
    for number in range(sets):
        measured = Estimate(random.binomial(samples, AGREEMENT) / samples, samples)
        for name, share in (("a drop of 3 points", AGREEMENT - DROP), ("no drop", AGREEMENT)):
            said = verdicts(drawn(share, runs // sets, salt=number), agreement_verdict(expected(measured, None)))
            for verdict, word in words.items():
                seen[name, word] += said[verdict] / sets
    against = f"expected by {samples:,} samples"
    return [_line(f"{name} {word}", share, against=against) for (name, word), share in seen.items()]


def _of_latency(runs: int) -> list[tuple[str, float]]:
    said = {share: verdicts(drawn(share, runs), latency_verdict) for share in (0.025, 0.05, 0.08)}
    return [
        ("p95 fails with 8 % of the frames over it", said[0.08]["failed"]),
        ("p95 fails with 5 % of the frames over it", said[0.05]["failed"]),
        ("p95 passes with 5 % of the frames over it", said[0.05]["passed"]),
        ("p95 passes with 2.5 % of the frames over it", said[0.025]["passed"]),
    ]
