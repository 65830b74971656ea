"""Gates: evidence -> waiting, passed, failed or not_applicable, with value, bounds, samples and reason.

Rules:
- Missing evidence holds a wave and fails it at its deadline; it never passes one.
- A gate may be judged after each report: its bounds hold over all looks together (sequential.py). It passes when both bounds lie on the
  good side of `passes_at`, fails when both lie on the bad side of `fails_at`, and waits otherwise. `min_samples` comes first, for both.
- A gate that compares with an incumbent does not apply where no device of the wave has one (its first model), or where nothing runs in the
  shadow.
- A fixed limit on agreement would stop every release that is better than its incumbent, so agreement is held against the one that is to be
  expected (agreement.py): it passes above `expected - limit` and fails below what is expected.
- The verdict depends on sums only, so reports may come in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from contracts.operator import Gate, GateView
from contracts.states import TERMINAL, State
from control_plane.domain.agreement import Expected, pooled
from control_plane.domain.evidence import Evidence
from control_plane.domain.execution import Execution
from control_plane.domain.sequential import Bounds, percentile_bounds_us, share_bounds
from processing import latency

IMPLICIT = Gate(metric="install_success", limit=1.0)  # a wave that names no install gate still needs its installs
SHADOW_METRICS = frozenset({"latency_p95_vs_incumbent", "agreement"})
FALSE_ALARM = 0.01  # of a verdict `failed`, over all looks
MISS = 0.05  # of a verdict `passed`, over all looks
P95 = 0.95
FINITE = 1e12  # JSON has no infinity; the overflow bucket is above every limit that makes sense


@dataclass(frozen=True)
class Judged:
    """What a wave's gates look at. `devices` is fixed when the wave opens; `final` once its deadline has passed.

    `expected_agreement`: by device, of its new with its running model; absent where the packaging did not know the incumbent.
    """

    devices: tuple[str, ...]
    executions: tuple[Execution, ...]  # the wave's installs
    shadow_pairs: int
    expected_agreement: dict[str, Expected]
    final: bool = False

    @property
    def evidence(self) -> Evidence:
        return sum((execution.evidence for execution in self.executions), Evidence())


@dataclass(frozen=True)
class Reading:
    """A metric as it stands: `value` in [`bounds`], and what both bounds must reach. `at_most`: the good side is below."""

    value: float
    bounds: Bounds
    samples: int
    passes_at: float
    fails_at: float
    at_most: bool = True
    of: str = "frames"
    reason: str = ""

    @property
    def passes(self) -> bool:
        return self.bounds.high <= self.passes_at if self.at_most else self.bounds.low >= self.passes_at

    @property
    def fails(self) -> bool:
        return self.bounds.low >= self.fails_at if self.at_most else self.bounds.high < self.fails_at


def with_implicit(gates: Sequence[Gate]) -> tuple[Gate, ...]:
    named = any(gate.metric == IMPLICIT.metric for gate in gates)
    return tuple(gates) if named else (IMPLICIT, *gates)


def judge(gate: Gate, wave: Judged) -> GateView:
    """The verdict on one gate; at the wave's deadline what still waits has failed."""
    view = _METRICS[gate.metric](gate, wave)
    if view.verdict == "waiting" and wave.final:
        return view.model_copy(update={"verdict": "failed", "reason": f"no evidence by the deadline: {view.reason}"})
    return view


def _view(gate: Gate, verdict: str, value: float | None = None, samples: int = 0, reason: str = "") -> GateView:
    return GateView.model_validate(
        {"metric": gate.metric, "limit": gate.limit, "verdict": verdict, "value": value, "samples": samples, "reason": reason}
    )


def _waiting(gate: Gate, samples: int, what: str) -> GateView:
    return _view(gate, "waiting", None, samples, f"waits for {what}: {samples} of {gate.min_samples}")


def _verdict(gate: Gate, seen: Reading) -> GateView:
    verdict = "passed" if seen.passes else "failed" if seen.fails else "waiting"
    undecided = f"waits for more {seen.of}: {seen.samples} leave it open" if verdict == "waiting" else ""
    view = _view(gate, verdict, min(seen.value, FINITE), seen.samples, "; ".join(filter(None, (undecided, seen.reason))))
    ends = {"low": seen.bounds.low, "high": seen.bounds.high, "passes_at": seen.passes_at, "fails_at": seen.fails_at}
    return view.model_copy(update={name: end if end < FINITE else None for name, end in ends.items()})


# -- installs


def _install_success(gate: Gate, wave: Judged) -> GateView:
    total = len(wave.devices)
    if total == 0:
        return _view(gate, "waiting", reason="waits for a device: the wave is empty")
    needed = ceil(gate.limit * total - 1e-9)  # 0.7 of 10 is 7, whatever floats say
    confirmed = sum(_proven(execution) for execution in wave.executions)
    lost = sum(execution.state in TERMINAL and not _proven(execution) for execution in wave.executions)
    share, codes = confirmed / total, sorted({execution.code for execution in wave.executions if execution.code})
    if total - lost < needed:
        return _view(gate, "failed", share, confirmed + lost, f"{lost} of {total} not confirmed {' '.join(codes)}".strip())
    if confirmed >= needed and confirmed + lost >= min(gate.min_samples, total):
        return _view(gate, "passed", share, confirmed + lost)
    return _view(gate, "waiting", share, confirmed + lost, f"waits for {total - confirmed - lost} of {total} devices")


def _proven(execution: Execution) -> bool:
    return execution.state is State.CONFIRMED and execution.evidence.local_rollbacks == 0


# -- live frames


def _latency(gate: Gate, wave: Judged) -> GateView:
    counts = wave.evidence.latency
    samples = sum(counts)
    if samples < max(1, gate.min_samples):
        return _waiting(gate, samples, "frames of the probation")
    bounds = percentile_bounds_us(counts, P95, FALSE_ALARM, MISS)
    return _verdict(gate, Reading(latency.percentile_us(counts, P95), bounds, samples, gate.limit, gate.limit))


def _share_of_frames(count: Callable[[Evidence], int]) -> Callable[[Gate, Judged], GateView]:
    def share(gate: Gate, wave: Judged) -> GateView:
        frames, hits = wave.evidence.frames, count(wave.evidence)
        if frames < max(1, gate.min_samples):
            return _waiting(gate, frames, "frames of the probation")
        if gate.limit == 0:  # no number of frames proves that there will be none: one is too many, none in `min_samples` is enough
            return _view(gate, "failed" if hits else "passed", hits / frames, frames)
        bounds = share_bounds(hits, frames, FALSE_ALARM, MISS)
        return _verdict(gate, Reading(hits / frames, bounds, frames, gate.limit, gate.limit))

    return share


# -- frames that incumbent and candidate both answered


def _shadow(judge_pairs: Callable[[Gate, Judged], GateView]) -> Callable[[Gate, Judged], GateView]:
    """A gate on shadow pairs, which needs an incumbent and a shadow."""

    def guarded(gate: Gate, wave: Judged) -> GateView:
        if wave.shadow_pairs == 0:
            return _view(gate, "not_applicable", reason="the campaign has no shadow phase")
        if wave.executions and len(wave.executions) == len(wave.devices) and not any(e.previous_digest for e in wave.executions):
            return _view(gate, "not_applicable", reason="no device of the wave has an incumbent")
        return judge_pairs(gate, wave)

    return guarded


@_shadow
def _latency_vs_incumbent(gate: Gate, wave: Judged) -> GateView:
    """In units of the incumbent's p95. Both p95 are bounded, each at half the error."""
    candidate, incumbent = wave.evidence.candidate_latency, wave.evidence.incumbent_latency
    samples = min(sum(candidate), sum(incumbent))
    if samples < max(1, gate.min_samples):
        return _waiting(gate, samples, "frames of the shadow")
    unit = min(latency.percentile_us(incumbent, P95), latency.EDGES_US[-1])
    own = percentile_bounds_us(candidate, P95, FALSE_ALARM / 2, MISS / 2)
    beside = percentile_bounds_us(incumbent, P95, MISS / 2, FALSE_ALARM / 2)
    seen = Reading(
        latency.percentile_us(candidate, P95) / unit, Bounds(own.low / unit, own.high / unit), samples,
        passes_at=_allowed_us(gate, beside.low) / unit, fails_at=_allowed_us(gate, beside.high) / unit,
        reason=f"incumbent's p95 {unit:.0f} us",
    )  # fmt: skip
    return _verdict(gate, seen)


def _allowed_us(gate: Gate, incumbent_us: float) -> float:
    """Of a model that takes microseconds a multiple is noise, so some time is always allowed."""
    return max(gate.limit * incumbent_us, incumbent_us + gate.allowance_us)


@_shadow
def _agreement(gate: Gate, wave: Judged) -> GateView:
    unknown = sorted(e.device for e in wave.executions if e.previous_digest and e.device not in wave.expected_agreement)
    if unknown:
        return _view(gate, "waiting", reason=f"waits for packaging: no expected agreement with the incumbent of {', '.join(unknown)}")
    compared = [e for e in wave.executions if e.evidence.pairs and e.device in wave.expected_agreement]
    pairs, agreed = sum(e.evidence.pairs for e in compared), sum(e.evidence.agreed for e in compared)
    if pairs < max(1, gate.min_samples):
        return _waiting(gate, pairs, "pairs of the shadow")
    expected = pooled((wave.expected_agreement[e.device], e.evidence.pairs) for e in compared)
    seen = Reading(
        agreed / pairs, share_bounds(agreed, pairs, MISS, FALSE_ALARM), pairs, expected.share - gate.limit, expected.low,
        at_most=False, of="pairs", reason=f"expected {expected.share:.3f}, margin {gate.limit}{_shift(wave.evidence)}",
    )  # fmt: skip
    return _verdict(gate, seen)


def _shift(evidence: Evidence) -> str:
    n, mean, _ = evidence.score_shift
    return f"; its score is {mean:+.3f} beside the incumbent's" if n else ""


_METRICS: dict[str, Callable[[Gate, Judged], GateView]] = {
    "install_success": _install_success,
    "latency_p95_us": _latency,
    "latency_p95_vs_incumbent": _latency_vs_incumbent,
    "agreement": _agreement,
    "not_finite": _share_of_frames(lambda evidence: evidence.not_finite),
    "refused_share": _share_of_frames(lambda evidence: evidence.refused),
}
