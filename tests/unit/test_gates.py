"""Gates: each metric's verdicts, and what missing evidence does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts.operator import Gate
from contracts.reports import Window
from contracts.states import State
from control_plane.domain.agreement import Estimate
from control_plane.domain.agreement import expected as expected_agreement
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
    """`expected`: agreement by device, measured on 1080 held-out samples."""
    found = {device: expected_agreement(Estimate(share, 1080), None) for device, share in expected.items()}
    return Judged(tuple(one.device for one in executions), executions, shadow, found, final)


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
    def beside(candidate: float, incumbent: float = 300) -> Execution:
        return execution(candidate_latency=histogram(candidate, 160), incumbent_latency=histogram(incumbent, 160))

    assert judge(RELATIVE, wave(beside(350), shadow=50)).verdict == "passed"
    assert judge(RELATIVE, wave(beside(6_800), shadow=50)).verdict == "failed"
    assert judge(RELATIVE, wave(execution(), shadow=50)).verdict == "waiting"
    assert judge(RELATIVE, wave(beside(1_900), shadow=50)).verdict == "passed", "six times as long, and no more than 2 ms longer"
    assert judge(RELATIVE, wave(beside(50_000, 10_000), shadow=50)).verdict == "failed"
    assert judge(RELATIVE, wave(beside(25_000, 10_000), shadow=50)).verdict == "passed"
    assert judge(RELATIVE.model_copy(update={"allowance_us": 0}), wave(beside(1_900), shadow=50)).verdict == "failed"


def test_relative_latency_is_told_in_units_of_the_incumbents_p95() -> None:
    one = execution(candidate_latency=histogram(6_800, 160), incumbent_latency=histogram(350, 160))
    seen = judge(RELATIVE, wave(one, shadow=50))
    assert seen.value == pytest.approx(6888.6 / 362.0, rel=1e-3), "upper edges of both buckets"
    assert seen.low is not None
    assert seen.fails_at is not None
    assert seen.low >= seen.fails_at
    assert "362 us" in seen.reason


def test_relative_latency_of_what_lies_beyond_the_last_bucket_decides_nothing() -> None:
    """Nobody can say which of the two is slower."""
    one = execution(candidate_latency=histogram(1e9, 160), incumbent_latency=histogram(1e9, 160))
    assert judge(RELATIVE, wave(one, shadow=50)).verdict == "waiting"


@pytest.mark.parametrize(("over", "verdict"), [(0, "passed"), (1, "waiting"), (8, "waiting"), (25, "failed")])
def test_a_p95_that_100_frames_do_not_prove_is_waited_for(over: int, verdict: str) -> None:
    counts = latency.merge(histogram(500, 100 - over), histogram(50_000, over))
    seen = judge(LATENCY, wave(execution(latency=tuple(counts))))
    assert seen.verdict == verdict
    assert ("100 leave it open" in seen.reason) == (verdict == "waiting")


def test_what_lies_in_the_limits_own_bucket_is_proven_on_neither_side() -> None:
    """An edge itself belongs to the bucket below it."""
    many = wave(execution(latency=histogram(20_000, 10**6)))
    lower, upper = latency.EDGES_US[latency.bucket(20_000) - 1], latency.EDGES_US[latency.bucket(20_000)]
    limits = {lower: "failed", lower * 1.01: "waiting", 20_000: "waiting", upper * 0.99: "waiting", upper: "passed"}
    assert {limit: judge(LATENCY.model_copy(update={"limit": limit}), many).verdict for limit in limits} == limits


def test_agreement_is_a_margin_below_what_packaging_measured() -> None:
    good = execution(pairs=300, agreed=279)  # 0.93
    bad = execution(pairs=300, agreed=209)  # 0.697
    assert judge(AGREEMENT, wave(good, shadow=150, d1=0.932)).verdict == "passed"
    assert judge(AGREEMENT, wave(bad, shadow=150, d1=0.932)).verdict == "failed"
    assert judge(AGREEMENT, wave(bad, shadow=150, d1=0.70)).verdict == "passed"
    assert judge(AGREEMENT, wave(execution(pairs=149, agreed=149), shadow=150, d1=0.932)).verdict == "waiting"


def test_agreement_tells_its_bounds_and_where_it_turns() -> None:
    seen = judge(AGREEMENT, wave(execution(pairs=300, agreed=279), shadow=150, d1=0.932))
    assert seen.passes_at == pytest.approx(0.832)
    assert seen.fails_at == pytest.approx(0.915, abs=1e-3), "the lower end of what 1,080 samples say"
    assert seen.low == pytest.approx(0.88, abs=0.02)
    assert seen.high == pytest.approx(0.97, abs=0.02)
    between = judge(AGREEMENT, wave(execution(pairs=300, agreed=262), shadow=150, d1=0.932))  # 0.873
    assert between.verdict == "waiting"
    assert between.reason == "waits for more pairs: 300 leave it open; expected 0.932, margin 0.1"


def test_each_devices_pairs_are_held_against_its_own_incumbent() -> None:
    """One device's incumbent was poor, and a good candidate disagrees with it; the mean of what is expected is weighted by pairs."""
    some = (execution(1, pairs=600, agreed=570), execution(2, pairs=300, agreed=210))
    seen = judge(AGREEMENT, wave(*some, shadow=150, d1=0.95, d2=0.70))
    assert seen.verdict == "passed"
    assert seen.passes_at == pytest.approx((600 * 0.95 + 300 * 0.70) / 900 - 0.10)
    assert judge(AGREEMENT, wave(*some, shadow=150, d1=0.95, d2=0.95)).verdict == "failed"


def test_no_less_is_expected_than_of_a_model_that_is_no_worse() -> None:
    bad, poor = Estimate(0.694, 360), Estimate(0.58, 1080)
    assert expected_agreement(bad, Estimate(0.974, 1080)).share == pytest.approx(0.948)
    assert expected_agreement(bad, Estimate(0.974, 1080)).low == pytest.approx(2 * 0.9627 - 1, abs=1e-3)
    assert expected_agreement(poor, Estimate(0.57, 1080)).share == 0.58
    assert expected_agreement(poor, None).share == 0.58


def test_a_held_out_set_of_nothing_lets_nothing_fail() -> None:
    unknown = Judged(("d1",), (execution(pairs=10**4, agreed=9_000),), 150, {"d1": expected_agreement(Estimate(0.95, 0), None)})
    assert judge(Gate(metric="agreement", limit=0.03, min_samples=150), unknown).verdict == "waiting"


def test_agreement_with_an_incumbent_that_packaging_did_not_know_is_missing_evidence() -> None:
    one = execution(pairs=200, agreed=200)
    seen = judge(AGREEMENT, wave(one, shadow=150))
    assert seen.verdict == "waiting"
    assert "d1" in seen.reason
    assert judge(AGREEMENT, wave(one, shadow=150, final=True)).verdict == "failed"


def test_not_finite_share() -> None:
    assert judge(NOT_FINITE, wave(execution(frames=10, not_finite=0))).verdict == "passed"
    assert judge(NOT_FINITE, wave(execution(frames=10, not_finite=1))).verdict == "failed"


@pytest.mark.parametrize(("refused", "verdict"), [(0, "passed"), (10, "waiting"), (40, "failed")])
def test_refused_share(refused: int, verdict: str) -> None:
    gate = Gate(metric="refused_share", limit=0.02, min_samples=100)
    assert judge(gate, wave(execution(frames=600, refused=refused))).verdict == verdict


def window(**changed: object) -> Window:
    base: dict[str, object] = {
        "execution": "c/d1/1", "fence": 1, "seq": 1, "boot_id": "b", "mono_ms": 1, "utc": "", "bundle_digest": TARGET, "duration_s": 1,
        "frames": 20, "accepted_rows": 19, "refused": 1, "not_finite": 0, "latency": histogram(400, 20),
    }  # fmt: skip
    return Window.model_validate({**base, **changed})


def test_windows_fold_in_any_order_and_only_for_their_target() -> None:
    live = of_window(window(), TARGET)
    pairs = {"pairs": 20, "agreed": 18, "shadow_latency": histogram(500, 20), "score_shift": (20, -0.5, 1.5)}
    shadow = of_window(window(bundle_digest=PREVIOUS, shadow_digest=TARGET, **pairs), TARGET)
    assert live + shadow == shadow + live
    assert (live + shadow).frames == 20
    assert (live + shadow).agreed == 18
    assert (live + shadow).score_shift == (20, -0.5, 1.5)
    assert of_window(window(bundle_digest=PREVIOUS), TARGET) == Evidence()
    assert Evidence.from_json((live + shadow).to_json()) == live + shadow


def test_a_histogram_of_another_length_counts_nothing() -> None:
    odd = replace(Evidence(), latency=(1, 2, 3))
    assert sum((odd + Evidence()).latency) == 0
