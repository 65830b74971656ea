"""Admission: one test per refusal, each with its code; and the decisions beside it (orders, floors, health, back-off, windows)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from contracts.assignment import Assignment, Component
from contracts.errors import LocalFaultError, RejectedError, SkerryError, TrustError
from contracts.manifest import MANIFEST_MAX_BYTES
from edge_agent.core import floors as floor
from edge_agent.core.admission import AdmittedBundle, Here, ImageTarget, admit
from edge_agent.core.backoff import Backoff, jittered_s
from edge_agent.core.floors import Floors
from edge_agent.core.health import Observed, Rules, judge
from edge_agent.core.orders import order_of, parse
from edge_agent.core.record import Record
from edge_agent.core.windows import summary_of
from edge_agent.loops.exchange import Exchange
from edge_agent.pipeline.windows import Window
from processing.latency import bucket, empty
from tests.simulators.bundle_bytes import PROFILE, BundleBytes, make_bundle, member

NOW = datetime(2026, 11, 20, tzinfo=timezone.utc)
HERE = Here(PROFILE, {"onnxruntime": "1.23.2"}, "0.1.0")
DEVICE = "dev-" + "a" * 26


def record_for(bundle: BundleBytes, **changes: Any) -> Record:
    return replace(
        Record(kind="install", execution="c/d/1", fence=1, path=bundle.path, target=bundle.digest, length=len(bundle.manifest)), **changes
    )


def try_admit(bundle: BundleBytes, **given: Any) -> AdmittedBundle:
    image = given.get("image") or ImageTarget(bundle.path, len(bundle.manifest), bundle.digest)
    return admit(
        given.get("record") or record_for(bundle),
        image,
        given.get("raw", bundle.manifest),
        here=given.get("here", HERE),
        floors=given.get("floors", Floors()),
        now=given.get("now", NOW),
    )


def refusal(kind: type[SkerryError], bundle: BundleBytes, **given: Any) -> str:
    with pytest.raises(kind) as refused:
        try_admit(bundle, **given)
    return refused.value.code


def test_a_good_bundle_is_admitted() -> None:
    bundle = make_bundle()
    admitted = try_admit(bundle)
    assert (admitted.digest, admitted.manifest_bytes) == (bundle.digest, bundle.manifest)


def test_1_the_clock_is_below_the_floor() -> None:
    below = Floors(time_utc_s=(NOW + timedelta(seconds=1)).timestamp())
    assert refusal(LocalFaultError, make_bundle(), floors=below) == "TUF_CLOCK_BELOW_FLOOR"


def test_2_an_unknown_kind_and_a_roll_back_to_a_stranger() -> None:
    bundle = make_bundle()
    assert refusal(RejectedError, bundle, record=record_for(bundle, kind="teleport")) == "ASSIGNMENT_KIND"
    assert refusal(RejectedError, bundle, record=record_for(bundle, kind="rollback")) == "ASSIGNMENT_INVALID"
    assert try_admit(bundle, record=record_for(bundle, kind="rollback", history=(bundle.digest,))).digest == bundle.digest


@pytest.mark.parametrize("change", [{"length": 1}, {"sha256": "f" * 64}, {"path": "bundles/other/tiny-1.json"}])
def test_3_director_and_image_disagree(change: dict[str, Any]) -> None:
    bundle = make_bundle()
    image = replace(ImageTarget(bundle.path, len(bundle.manifest), bundle.digest), **change)
    assert refusal(TrustError, bundle, image=image) == "BUNDLE_MISMATCH"


def test_4_other_bytes() -> None:
    bundle = make_bundle()
    assert refusal(TrustError, bundle, raw=bundle.manifest[:-1] + b" ") == "BUNDLE_MISMATCH"


def test_5_a_digest_that_failed_under_this_fence() -> None:
    bundle = make_bundle()
    assert refusal(RejectedError, bundle, record=record_for(bundle, bad=((bundle.digest, 1),))) == "BUNDLE_BAD_DIGEST"
    assert try_admit(bundle, record=record_for(bundle, fence=2, bad=((bundle.digest, 1),))).digest == bundle.digest


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "UPPER", ".hidden", "manifest.json", "x\n"])
def test_6_a_member_name(name: str) -> None:
    bundle = make_bundle()
    members = {one: member(data) for one, data in bundle.members.items()} | {name: member(b"x")}
    assert refusal(RejectedError, make_bundle(members=members)) == "BUNDLE_MEMBER_NAME"


def test_6_a_name_that_occurs_twice() -> None:
    bundle = make_bundle()
    raw = bundle.manifest.replace(b'"members":{', b'"members":{"model.onnx":{"chunks":[],"length":0,"sha256":"' + b"0" * 64 + b'"},')
    assert refusal(RejectedError, replace(bundle, manifest=raw)) == "BUNDLE_MEMBER_NAME"


@pytest.mark.parametrize(
    "bundle",
    [
        replace(make_bundle(), manifest=b"no json"),
        replace(make_bundle(), manifest=b"[" * 5000),
        replace(make_bundle(), manifest=b" " * (MANIFEST_MAX_BYTES + 1)),
        make_bundle(limits=None),
        make_bundle(members={"model.onnx": member(b"x")}),
        make_bundle(kind="wheel"),
    ],
    ids=["no json", "nesting", "size", "field missing", "member missing", "other kind"],
)
def test_6_the_manifests_form(bundle: BundleBytes) -> None:
    assert refusal(RejectedError, bundle) == "BUNDLE_MANIFEST"


def test_6_a_chunk_list_that_does_not_fit_the_length() -> None:
    bundle = make_bundle()
    members = {one: member(data) for one, data in bundle.members.items()}
    members["model.onnx"]["length"] = 4 * 1024**3
    assert refusal(RejectedError, make_bundle(members=members)) == "BUNDLE_MANIFEST"


def test_7_a_manifest_at_another_path() -> None:
    bundle = replace(make_bundle(), path=f"bundles/{PROFILE}/tiny-2.json")
    assert refusal(TrustError, bundle) == "BUNDLE_MISMATCH"


def test_8_another_profile() -> None:
    assert refusal(RejectedError, make_bundle(), here=replace(HERE, profile="jetson-orin")) == "BUNDLE_PROFILE"


@pytest.mark.parametrize("runtimes", [{}, {"onnxruntime": "1.15.9"}, {"onnxruntime": "2.0"}, {"tensorrt": "1.23"}])
def test_9_the_runtime_is_out_of_range(runtimes: dict[str, str]) -> None:
    assert refusal(RejectedError, make_bundle(), here=replace(HERE, runtimes=runtimes)) == "BUNDLE_RUNTIME"


def test_9_the_agent_is_too_old() -> None:
    assert refusal(RejectedError, make_bundle(min_agent="0.2.0")) == "BUNDLE_RUNTIME"


def test_10_the_security_epoch_is_below_the_floor() -> None:
    assert refusal(TrustError, make_bundle(), floors=Floors(security_epoch=2)) == "BUNDLE_EPOCH"


# -- orders


def assignment(**changes: Any) -> Assignment:
    component = Component(target="bundles/p/m-1.json", length=10, sha256="1" * 64)
    values = {"device": DEVICE, "desired_generation": 1, "issued_at": NOW, "kind": "install", "execution": "c/d/1", "fence": 1}
    return Assignment.model_validate({**values, "components": [component.model_dump()], **changes})


def test_an_assignment_for_another_device_is_a_lie() -> None:
    with pytest.raises(TrustError) as refused:
        order_of(assignment(), "dev-" + "b" * 26)
    assert refused.value.code == "ASSIGNMENT_DEVICE"


@pytest.mark.parametrize("change", [{"components": []}, {"execution": ""}, {"fence": 0}])
def test_an_assignment_that_makes_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(RejectedError) as refused:
        order_of(assignment(**change), DEVICE)
    assert refused.value.code == "ASSIGNMENT_INVALID"
    with pytest.raises(RejectedError):
        parse(b'{"device": 3}')


def test_an_unknown_kind_is_an_order_that_the_table_answers() -> None:
    assert order_of(assignment(kind="teleport", components=[]), DEVICE).kind == "teleport"
    assert parse(assignment().model_dump_json().encode()) == assignment()


# -- floors


def test_floors_only_rise() -> None:
    floors = floor.with_epoch(floor.with_versions(floor.with_time(Floors(), NOW), {"image/root": 3}), 2)
    lower = floor.with_epoch(floor.with_versions(floor.with_time(floors, NOW - timedelta(days=1)), {"image/root": 1}), 1)
    assert lower == floors
    assert Floors.of_json(floors.as_json()) == floors
    with pytest.raises(TrustError) as refused:
        floor.check_versions(floors, {"image/root": 2})
    assert refused.value.code == "TUF_ROLLBACK"
    with pytest.raises(TrustError) as refused:
        floor.check_expiry("timestamp", NOW, NOW)
    assert refused.value.code == "TUF_EXPIRED"


# -- health


def window(frames: int, us: float = 100.0, not_finite: int = 0) -> dict[str, Any]:
    latency = empty()
    latency[bucket(us)] = frames
    return {"bundle_digest": "1" * 64, "frames": frames, "not_finite": not_finite, "latency": latency}


def unfit(frames: int) -> dict[str, Any]:
    return {**window(0), "frames": frames, "refusals": {"FRAME_SHAPE": frames}}


RULES = Rules(min_s=5, min_frames=100, latency_p95_us=1000)


@pytest.mark.parametrize(
    ("windows", "elapsed_s", "verdict"),
    [
        ([], 99, "wait"),
        ([window(99)], 99, "wait"),
        ([window(100)], 4.9, "wait"),
        ([window(60), window(40)], 5, "well"),
        ([window(90), window(10, us=5000)], 5, "BUNDLE_LIMITS"),
        ([window(96), window(4, us=5000)], 5, "well"),
        ([window(1, not_finite=1)], 0, "WORKER_NOT_FINITE"),
        ([unfit(99)], 99, "wait"),
        ([unfit(100)], 5, "FRAME_SHAPE"),
        ([unfit(99), window(1)], 5, "well"),  # a share of them is a gate's question
        ([{**unfit(100), "refusals": {"FRAME_SOURCE": 100}}], 5, "well"),  # a dark camera is not the model's fault
    ],
)
def test_probation_is_judged_by_frames_time_and_its_own_limit(windows: list[dict[str, Any]], elapsed_s: float, verdict: str) -> None:
    observed = Observed()
    for one in windows:
        observed = observed.plus(one)
    judged = judge(observed, RULES, elapsed_s)
    assert (judged if isinstance(judged, str) else judged[0]) == verdict


def test_windows_are_summed() -> None:
    shadow = empty()
    shadow[3] = 7
    summary = summary_of(window(5)).plus({**window(6), "pairs": 7, "agreed": 6, "shadow_latency": shadow, "refused": 1, "duration_s": 1.5})
    body = summary.body()
    assert (body["frames"], sum(body["latency"]), body["pairs"], sum(body["shadow_latency"]), body["refused"]) == (11, 11, 7, 7, 1)
    assert not summary.fits({**window(1), "shadow_digest": "2" * 64})


def test_a_device_with_a_source_and_a_front_adds_both() -> None:
    pipeline, front = (Window(0.0, "1" * 64, "2" * 64) for _ in range(2))
    for one, frames in ((pipeline, 3), (front, 5)):
        one.frames = frames
        one.answered(100)
        one.shadow_answered(200)
        one.pair(True, 0.5)
    exchange = Exchange()
    exchange.observe("1" * 64)
    for one in (pipeline, front):
        exchange.take_window(one.message(1.0, 0, {}))
    (summary,) = exchange.take_summaries()
    assert (summary.frames, summary.pairs, sum(summary.latency), sum(summary.shadow_latency)) == (8, 2, 2, 2)
    assert (summary.score_shift, exchange.observed("1" * 64).frames) == ((2, 0.5, 0.0), 8)


def test_a_window_of_late_pairs_is_not_blank_and_score_shifts_add_up() -> None:
    late = {**window(0), "pairs": 2, "agreed": 2, "score_shift": [2, 0.5, 0.02]}
    assert not summary_of(late).blank
    assert summary_of(window(0)).blank
    assert summary_of(late).plus({**late, "score_shift": [2, 0.1, 0.02]}).body()["score_shift"] == pytest.approx([4, 0.3, 0.2])


def test_refused_rows_of_feature_windows_reach_the_report_and_are_no_frames() -> None:
    told = {**window(0), "window_rows_refused": 3}
    assert not summary_of(told).blank
    body = summary_of(told).plus(told).body()
    assert (body["window_rows_refused"], body["refused"], body["frames"]) == (6, 0, 0)


# -- back-off


def test_delays_grow_to_the_cap_and_a_servers_wish_wins() -> None:
    backoff = Backoff(base_s=1, cap_s=8)
    assert [backoff.delay_s(n, 1.0) for n in (1, 2, 3, 4, 5, 999)] == [1, 2, 4, 8, 8, 8]
    assert backoff.delay_s(5, 0.0) == pytest.approx(0.8)
    assert backoff.delay_s(9, 0.5, retry_after_s=3) == 3
    assert jittered_s(10, 0.5) == pytest.approx(10)
