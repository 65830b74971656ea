"""Gates: evidence -> waiting, passed, failed or not_applicable, with the value, the samples and the reason.

Rules: missing evidence holds a wave and fails it at its deadline; it never passes one. A gate that compares with an
incumbent does not apply where no device of the wave has one (its first model), or where nothing runs in the shadow.
A fixed limit on agreement would stop every release that is better than its incumbent, so the limit is a margin below the
agreement that was measured at packaging.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from contracts.operator import Gate, GateView
from contracts.states import TERMINAL, State
from control_plane.domain.evidence import Evidence
from control_plane.domain.execution import Execution
from processing import latency

IMPLICIT = Gate(metric="install_success", limit=1.0)  # a wave that names no install gate still needs its installs
SHADOW_METRICS = frozenset({"latency_p95_vs_incumbent", "agreement"})
P95 = 0.95


@dataclass(frozen=True)
class Judged:
    """What a wave's gates look at. `devices` is fixed when the wave opens; `final` once its deadline has passed.

    `expected_agreement`: device -> share of held-out samples on which its new and its running model agree, as measured at
    packaging; absent where the packaging did not know the incumbent.
    """

    devices: tuple[str, ...]
    executions: tuple[Execution, ...]  # the wave's installs
    shadow_pairs: int
    expected_agreement: dict[str, float]
    final: bool = False

    @property
    def evidence(self) -> Evidence:
        return sum((execution.evidence for execution in self.executions), Evidence())


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


def _waiting(gate: Gate, samples: int, what: str, value: float | None = None) -> GateView:
    return _view(gate, "waiting", value, samples, f"waits for {what}: {samples} of {gate.min_samples}")


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


def _latency(gate: Gate, wave: Judged) -> GateView:
    counts = wave.evidence.latency
    samples = sum(counts)
    if samples < gate.min_samples:
        return _waiting(gate, samples, "frames of the probation")
    value = latency.percentile_us(counts, P95)
    return _within(gate, value, samples, value <= gate.limit)


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
    candidate, incumbent = wave.evidence.candidate_latency, wave.evidence.incumbent_latency
    samples = min(sum(candidate), sum(incumbent))
    if samples < gate.min_samples:
        return _waiting(gate, samples, "frames of the shadow")
    beside, own = latency.percentile_us(incumbent, P95), latency.percentile_us(candidate, P95)
    value = 1.0 if own == beside else own / beside  # both may lie in the overflow bucket
    return _within(gate, value, samples, value <= gate.limit)


@_shadow
def _agreement(gate: Gate, wave: Judged) -> GateView:
    unknown = sorted(e.device for e in wave.executions if e.previous_digest and e.device not in wave.expected_agreement)
    if unknown:
        return _view(gate, "waiting", reason=f"waits for packaging: no expected agreement with the incumbent of {', '.join(unknown)}")
    compared = [e for e in wave.executions if e.evidence.pairs and e.device in wave.expected_agreement]
    pairs = sum(execution.evidence.pairs for execution in compared)
    if pairs < gate.min_samples:
        return _waiting(gate, pairs, "pairs of the shadow")
    value = sum(execution.evidence.agreed for execution in compared) / pairs
    expected = sum(wave.expected_agreement[e.device] * e.evidence.pairs for e in compared) / pairs
    return _within(gate, value, pairs, value >= expected - gate.limit, f"expected {expected:.3f}, margin {gate.limit}")


def _share_of_frames(count: Callable[[Evidence], int]) -> Callable[[Gate, Judged], GateView]:
    def share(gate: Gate, wave: Judged) -> GateView:
        evidence = wave.evidence
        if evidence.frames < gate.min_samples:
            return _waiting(gate, evidence.frames, "frames of the probation")
        value = count(evidence) / max(1, evidence.frames)
        return _within(gate, value, evidence.frames, value <= gate.limit)

    return share


def _within(gate: Gate, value: float, samples: int, good: bool, reason: str = "") -> GateView:
    finite = min(value, 1e12)  # JSON has no infinity; the overflow bucket is above every limit that makes sense
    return _view(gate, "passed" if good else "failed", finite, samples, reason)


_METRICS: dict[str, Callable[[Gate, Judged], GateView]] = {
    "install_success": _install_success,
    "latency_p95_us": _latency,
    "latency_p95_vs_incumbent": _latency_vs_incumbent,
    "agreement": _agreement,
    "not_finite": _share_of_frames(lambda evidence: evidence.not_finite),
    "refused_share": _share_of_frames(lambda evidence: evidence.refused),
}
