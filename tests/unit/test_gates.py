"""Gates: each metric's verdicts, and what missing evidence does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts.operator import Gate
from contracts.reports import Window
from contracts.states import State
from control_plane.domain.evidence import Evidence, of_window
from control_plane.domain.execution import Execution
from control_plane.domain.gates import Judged, judge, with_implicit
from processing import latency

TARGET, PREVIOUS = "a" * 64, "b" * 64


def execution(number: int = 1, state: State = State.CONFIRMED, previous: str = PREVIOUS, **evidence: object) -> Execution:
    return Execution(
        f"c/d{number}/1", f"d{number}", 1, "install", TARGET, previous, number, state, evidence=Evidence(**evidence)  # type: ignore[arg-type]
    )  # fmt: skip


def wave(*executions: Execution, shadow: int = 0, final: bool = False, **expected: float) -> Judged:
    return Judged(tuple(one.device for one in executions), executions, shadow, expected, final)


def histogram(us: float, count: int) -> tuple[int, ...]:
    counts = latency.empty()
    counts[latency.bucket(us)] = count
    return tuple(counts)


INSTALL = Gate(metric="install_success", limit=1.0)
LATENCY = Gate(metric="latency_p95_us", limit=20_000, min_samples=100)
RELATIVE = Gate(metric="latency_p95_vs_incumbent", limit=3, min_samples=50)
AGREEMENT = Gate(metric="agreement", limit=0.10, min_samples=150)
NOT_FINITE = Gate(metric="not_finite", limit=0.0, min_samples=10)


def test_install_gate_is_implied() -> None:
    assert with_implicit([LATENCY])[0].metric == "install_success"
    assert with_implicit([Gate(metric="install_success", limit=0.5)]) == (Gate(metric="install_success", limit=0.5),)


@pytest.mark.parametrize(
    ("states", "limit", "verdict"),
    [
        ("CC", 1.0, "passed"),
        ("CP", 1.0, "waiting"),
        ("CF", 1.0, "failed"),
        ("CF", 0.5, "passed"),
        ("PF", 0.5, "waiting"),
        ("FF", 0.5, "failed"),
        ("CCCCCCCFFF", 0.7, "passed"),  # 0.7 of ten is seven, whatever floats say
        ("CCCCCCFFFF", 0.7, "failed"),
        ("TC", 1.0, "failed"),  # a timeout is a failure
    ],
)
def test_install_success(states: str, limit: float, verdict: str) -> None:
    names = {"C": State.CONFIRMED, "P": State.PROBATION, "F": State.FAILED, "T": State.TIMED_OUT}
    some = [execution(number, names[letter]) for number, letter in enumerate(states)]
    assert judge(Gate(metric="install_success", limit=limit), wave(*some)).verdict == verdict


def test_an_empty_wave_proves_nothing() -> None:
    assert judge(INSTALL, wave()).verdict == "waiting"
    assert judge(INSTALL, wave(final=True)).verdict == "failed"


def test_confirmed_and_then_gone_back_by_itself_is_not_success() -> None:
    assert judge(INSTALL, wave(execution(local_rollbacks=1))).verdict == "failed"


def test_absolute_latency_waits_for_its_samples_then_judges() -> None:
    few = judge(LATENCY, wave(execution(latency=histogram(500, 99))))
    assert (few.verdict, few.samples) == ("waiting", 99)
    assert "99 of 100" in few.reason
    assert judge(LATENCY, wave(execution(latency=histogram(500, 100)))).verdict == "passed"
    slow = judge(LATENCY, wave(execution(latency=histogram(30_000, 100))))
    assert slow.verdict == "failed"
    assert slow.value is not None
    assert slow.value >= 30_000


def test_absolute_latency_applies_to_a_first_model_too() -> None:
    assert judge(LATENCY, wave(execution(previous="", latency=histogram(500, 100)))).verdict == "passed"


def test_overflow_bucket_fails_and_is_finite() -> None:
    seen = judge(LATENCY, wave(execution(latency=histogram(1e9, 100))))
    assert seen.verdict == "failed"
    assert seen.value == 1e12


def test_missing_evidence_holds_and_fails_at_the_deadline() -> None:
    for gate in (LATENCY, NOT_FINITE):
        assert judge(gate, wave(execution())).verdict == "waiting"
        late = judge(gate, wave(execution(), final=True))
        assert late.verdict == "failed"
        assert "no evidence" in late.reason


@pytest.mark.parametrize("gate", [RELATIVE, AGREEMENT], ids=lambda gate: gate.metric)
def test_incumbent_gates_do_not_apply_without_shadow_or_incumbent(gate: Gate) -> None:
    no_shadow = judge(gate, wave(execution(), shadow=0))
    assert (no_shadow.verdict, no_shadow.reason) == ("not_applicable", "the campaign has no shadow phase")
    first = judge(gate, wave(execution(previous=""), shadow=100, final=True))
    assert (first.verdict, first.reason) == ("not_applicable", "no device of the wave has an incumbent")


def test_relative_latency() -> None:
    def beside(candidate: float) -> Execution:
        return execution(candidate_latency=histogram(candidate, 60), incumbent_latency=histogram(300, 60))

    assert judge(RELATIVE, wave(beside(350), shadow=50)).verdict == "passed"
    assert judge(RELATIVE, wave(beside(6_800), shadow=50)).verdict == "failed"
    assert judge(RELATIVE, wave(execution(), shadow=50)).verdict == "waiting"


def test_agreement_is_a_margin_below_what_packaging_measured() -> None:
    good = execution(pairs=200, agreed=186)  # 0.93
    bad = execution(pairs=200, agreed=139)  # 0.695
    assert judge(AGREEMENT, wave(good, shadow=150, d1=0.932)).verdict == "passed"
    assert judge(AGREEMENT, wave(bad, shadow=150, d1=0.932)).verdict == "failed"
    assert judge(AGREEMENT, wave(bad, shadow=150, d1=0.70)).verdict == "passed"
    assert judge(AGREEMENT, wave(execution(pairs=149, agreed=149), shadow=150, d1=0.932)).verdict == "waiting"


def test_agreement_with_an_incumbent_that_packaging_did_not_know_is_missing_evidence() -> None:
    one = execution(pairs=200, agreed=200)
    seen = judge(AGREEMENT, wave(one, shadow=150))
    assert seen.verdict == "waiting"
    assert "d1" in seen.reason
    assert judge(AGREEMENT, wave(one, shadow=150, final=True)).verdict == "failed"


def test_not_finite_share() -> None:
    assert judge(NOT_FINITE, wave(execution(frames=10, not_finite=0))).verdict == "passed"
    assert judge(NOT_FINITE, wave(execution(frames=10, not_finite=1))).verdict == "failed"


def window(**changed: object) -> Window:
    base: dict[str, object] = {
        "execution": "c/d1/1", "fence": 1, "seq": 1, "boot_id": "b", "mono_ms": 1, "utc": "", "bundle_digest": TARGET, "duration_s": 1,
        "frames": 20, "accepted_rows": 19, "refused": 1, "not_finite": 0, "latency": histogram(400, 20),
    }  # fmt: skip
    return Window.model_validate({**base, **changed})


def test_windows_fold_in_any_order_and_only_for_their_target() -> None:
    live = of_window(window(), TARGET)
    shadow = of_window(
        window(bundle_digest=PREVIOUS, shadow_digest=TARGET, pairs=20, agreed=18, shadow_latency=histogram(500, 20)), TARGET
    )  # fmt: skip
    assert live + shadow == shadow + live
    assert (live + shadow).frames == 20
    assert (live + shadow).agreed == 18
    assert of_window(window(bundle_digest=PREVIOUS), TARGET) == Evidence()
    assert Evidence.from_json((live + shadow).to_json()) == live + shadow


def test_a_histogram_of_another_length_counts_nothing() -> None:
    odd = replace(Evidence(), latency=(1, 2, 3))
    assert sum((odd + Evidence()).latency) == 0
