"""From a registered model to a signed release: each step, each refusal, and that every step may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import SkerryError
from contracts.release import Approval, BuildResult, ModelRegistration
from control_plane.services import releases as cases
from control_plane.services import releases_catalogue
from control_plane.services.models_crown import Crown
from program.log import Log
from tests.simulators.release_desk import FILES, NAME, PROFILE, ReleaseDesk

RELEASE = f"{NAME}-1"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ReleaseDesk]:
    desk = ReleaseDesk(tmp_path)
    yield desk
    desk.close()


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(SkerryError) as refused:
        call()
    return refused.value.code


# -- registration


def test_registering_writes_one_event_however_often_it_is_repeated(desk: ReleaseDesk) -> None:
    assert desk.register() == desk.register()
    assert desk.events() == [f"model_registered model:{NAME}/1"]


@pytest.mark.parametrize("field", FILES)
def test_a_registration_whose_file_is_missing_or_empty_is_refused(desk: ReleaseDesk, field: str) -> None:
    files = {name: desk.blobs.put(name.encode()) for name in FILES}
    for wrong in ("0" * 64, desk.blobs.put(b"")):
        registration = ModelRegistration(**{**files, field: wrong}, data_digest="dataset:sha256:0")
        assert refusal(lambda registration=registration: desk.models.register(NAME, registration, "operator:test")) == "API_INVALID"  # type: ignore[misc]
    assert desk.registry.names() == []


# -- aliases


def test_moving_candidate_opens_one_release_with_one_job(desk: ReleaseDesk) -> None:
    desk.register()
    for _ in range(3):
        desk.candidate(1)
    assert desk.states() == {RELEASE: "BUILDING"}
    assert desk.events("alias_moved", "release_building") == [f"alias_moved model:{NAME}/1", f"release_building {RELEASE}"]


def test_other_aliases_open_nothing(desk: ReleaseDesk) -> None:
    desk.register()
    desk.models.move_alias(NAME, "champion", 1, "operator:test")
    assert desk.states() == {}


def test_going_back_to_a_released_version_builds_nothing_anew(desk: ReleaseDesk) -> None:
    for seed in "12":
        desk.register(seed)
    for version in (1, 2, 1):
        desk.candidate(version)
    assert desk.states() == {RELEASE: "BUILDING", f"{NAME}-2": "BUILDING"}
    assert desk.registry.aliases(NAME) == {"candidate": 1}


def test_a_failed_build_is_tried_again_under_a_new_number(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    job = desk.next_job()
    assert job
    desk.answer(job, BuildResult(code="BUILD_LINT", detail="Gemm with a bias of 32 bits"))
    desk.candidate(1)
    assert desk.states() == {RELEASE: "FAILED", f"{NAME}-2": "BUILDING"}
    assert desk.view(RELEASE).code == "BUILD_LINT"


def test_without_a_profile_no_alias_moves(tmp_path: Path) -> None:
    desk = ReleaseDesk(tmp_path, profiles=())
    desk.register()
    assert refusal(lambda: desk.candidate(1)) == "BUILD_NO_PROFILE"
    assert desk.registry.aliases(NAME) == {}
    desk.close()


def test_an_unknown_version_moves_nothing(desk: ReleaseDesk) -> None:
    desk.register()
    assert refusal(lambda: desk.candidate(2)) == "API_NOT_FOUND"
    assert desk.registry.aliases(NAME) == {}


def test_the_reconciler_acts_once_on_an_alias_moved_by_others(desk: ReleaseDesk) -> None:
    desk.register()
    desk.registry.move_behind_our_back(NAME, "candidate", 1)
    desk.models.reconcile()
    desk.models.reconcile()
    assert desk.events("alias_moved", "release_building") == [f"alias_moved model:{NAME}/1", f"release_building {RELEASE}"]


# -- builds


def test_a_builder_that_asks_again_gets_its_own_job_and_another_gets_none(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    first = desk.next_job()
    assert first is not None
    assert desk.next_job() == first
    assert desk.next_job("service:svc-build-2") is None


def test_a_job_whose_builder_never_answers_goes_to_another_after_the_lease(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    job = desk.next_job()
    assert job is not None
    desk.clock.advance(61)
    assert desk.next_job("service:svc-build-2") == job
    late = BuildResult(manifests={PROFILE: desk.manifest(job)})
    assert refusal(lambda: desk.answer(job, late)) == "API_FORBIDDEN"
    desk.answer(job, late, "service:svc-build-2")
    assert desk.states() == {RELEASE: "BUILT"}


def test_the_same_result_twice_is_one_result_and_another_is_a_conflict(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    job = desk.next_job()
    assert job is not None
    result = BuildResult(manifests={PROFILE: desk.manifest(job)})
    desk.answer(job, result)
    desk.answer(job, result)
    assert desk.events("release_built") == [f"release_built {RELEASE}"]
    assert refusal(lambda: desk.answer(job, BuildResult(code="BUILD_LINT"))) == "API_CONFLICT"


@pytest.mark.parametrize(
    "changed",
    [
        {"number": 2}, {"name": "other"}, {"profile": "x86-cpu-vnni"}, {"run": "run:other"}, {"data": "dataset:sha256:0"},
        {"model_version": f"model:{NAME}/9"}, {"security_epoch": 2}, {"members": {}},
    ],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_a_manifest_that_is_not_of_the_job_is_refused(desk: ReleaseDesk, changed: dict[str, Any]) -> None:
    desk.register()
    desk.candidate(1)
    job = desk.next_job()
    assert job is not None
    result = BuildResult(manifests={PROFILE: desk.manifest(job, **changed)})
    assert refusal(lambda: desk.answer(job, result)) == "BUILD_RESULT"
    assert desk.states() == {RELEASE: "BUILDING"}


def test_a_member_that_was_not_uploaded_is_met_before_approval(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    job = desk.next_job()
    assert job is not None
    digest = desk.manifest(job)
    desk.blobs.path(desk.blobs.put(f"model.sig of {job.id}".encode())).unlink()
    assert refusal(lambda: desk.answer(job, BuildResult(manifests={PROFILE: digest}))) == "BUILD_RESULT"


def test_a_profile_left_out_fails_the_release(tmp_path: Path) -> None:
    desk = ReleaseDesk(tmp_path, profiles=(PROFILE, "x86-cpu-vnni"))
    desk.register()
    desk.candidate(1)
    job = desk.next_job()
    assert job is not None
    desk.answer(job, BuildResult(manifests={PROFILE: desk.manifest(job)}))
    assert desk.view(RELEASE).state == "FAILED"
    assert "x86-cpu-vnni" in desk.view(RELEASE).detail
    desk.close()


def test_an_unknown_job_is_not_found(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    job = desk.next_job()
    assert job is not None
    assert refusal(lambda: desk.answer(job.model_copy(update={"id": "build-none-1"}), BuildResult())) == "API_NOT_FOUND"


def test_a_job_names_the_members_of_the_versions_that_devices_may_run(desk: ReleaseDesk) -> None:
    first = desk.signed_release("1")
    desk.candidate(desk.register("2").version)
    job = desk.next_job()
    assert job is not None
    with desk.units.read() as session:
        manifest = releases_catalogue.bundles(session, first)[PROFILE].manifest
    assert job.incumbents == {f"model:{NAME}/1": manifest.members[manifest.variants[0].member].sha256}


# -- approval and signing


def test_a_signed_release_is_what_campaigns_find(desk: ReleaseDesk) -> None:
    release_id = desk.signed_release()
    digest = desk.release(release_id).manifests[PROFILE]
    with desk.units.read() as session:
        found = releases_catalogue.bundles(session, release_id)[PROFILE]
        assert releases_catalogue.bundle(session, digest) == found
        schema = releases_catalogue.feature_schema(session, found.manifest.feature_schema.schema_id)
        (of_window,) = found.manifest.window_schemas
        assert releases_catalogue.feature_schema(session, of_window.schema_id) == of_window, "ingest asks for it as for the other one"
        assert refusal(lambda: releases_catalogue.feature_schema(session, "0" * 16)) == "API_NOT_FOUND"
    assert (found.digest, found.length) == (digest, desk.blobs.size(digest))
    assert found.manifest.target_path == f"bundles/{PROFILE}/{release_id}.json"
    assert schema == found.manifest.feature_schema


def test_before_it_is_signed_campaigns_find_nothing(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    desk.build()
    desk.approve(RELEASE)
    digest = desk.release(RELEASE).manifests[PROFILE]
    with desk.units.read() as session:
        assert releases_catalogue.bundles(session, RELEASE) == {}
        assert releases_catalogue.bundle(session, digest) is None


def test_nobody_else_approves(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    assert refusal(lambda: approve_with(desk, Approval(release_sha256="0" * 64, key_id="0", signature=""))) == "BUILD_RELEASE_STATE"
    desk.build()
    good = desk.approval(desk.release(RELEASE))
    for bad in (
        desk.approval(desk.release(RELEASE), desk.stranger),
        good.model_copy(update={"key_id": desk.stranger.key_id}),
        good.model_copy(update={"release_sha256": "0" * 64}),
        good.model_copy(update={"signature": "no hex"}),
        good.model_copy(update={"signature": "00" * 64}),
    ):
        assert refusal(lambda bad=bad: approve_with(desk, bad)) == "SIGNER_APPROVAL"  # type: ignore[misc]
    assert desk.states() == {RELEASE: "BUILT"}
    assert desk.signer.signed == []


def approve_with(desk: ReleaseDesk, approval: Approval) -> None:
    cases.approve(desk.units, desk.approvers, RELEASE, approval, "operator:test")


def test_what_is_not_approved_is_not_signed(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    desk.build()
    desk.sign(RELEASE)
    assert desk.states() == {RELEASE: "BUILT"}
    assert desk.signer.signed == []


def test_while_the_signer_is_away_the_approval_waits_and_says_so_once(desk: ReleaseDesk) -> None:
    desk.register()
    desk.candidate(1)
    desk.build()
    desk.approve(RELEASE)
    desk.signer.away = True
    for _ in range(3):
        assert refusal(lambda: desk.sign(RELEASE)) == "SIGNER_UNREACHABLE"
    assert (desk.view(RELEASE).state, desk.view(RELEASE).code) == ("APPROVED", "SIGNER_UNREACHABLE")
    assert desk.events("release_waits") == [f"release_waits {RELEASE}"]
    desk.signer.away = False
    desk.sign(RELEASE)
    assert (desk.view(RELEASE).state, desk.view(RELEASE).code) == ("SIGNED", "")


@pytest.mark.parametrize(("code", "state"), [("SIGNER_APPROVAL", "BUILT"), ("SIGNER_PROVENANCE", "FAILED"), ("SIGNER_MANIFEST", "FAILED")])
def test_a_refusal_of_the_signer_is_recorded(desk: ReleaseDesk, code: str, state: str) -> None:
    desk.register()
    desk.candidate(1)
    desk.build()
    desk.approve(RELEASE)
    desk.signer.refuses = code
    assert refusal(lambda: desk.sign(RELEASE)) == code
    assert (desk.view(RELEASE).state, desk.view(RELEASE).code) == (state, code)
    if state == "BUILT":  # another person may approve
        desk.signer.refuses = ""
        desk.approve(RELEASE)
        desk.sign(RELEASE)
        assert desk.view(RELEASE).state == "SIGNED"


def test_approving_and_signing_again_changes_nothing(desk: ReleaseDesk) -> None:
    release_id = desk.signed_release()
    before = desk.events()
    desk.approve(release_id)
    desk.sign(release_id)
    assert desk.events() == before
    assert len(desk.signer.signed) == 1


# -- the crown


def campaign_ends(desk: ReleaseDesk, event: str, release_id: str) -> None:
    with desk.units.write() as work:
        work.event(event, "campaign-1", release=release_id)


def crown(desk: ReleaseDesk) -> None:
    Crown(desk.models, Log("test")).follow()


def test_success_crowns_the_model_version_once(desk: ReleaseDesk) -> None:
    release_id = desk.signed_release()
    campaign_ends(desk, "campaign_succeeded", release_id)
    crown(desk)
    assert desk.registry.version(NAME, 1).aliases == ("candidate", "champion")
    calls = len(desk.registry.log)
    crown(desk)
    assert len(desk.registry.log) == calls, "a follower that starts again goes on where it was"


def test_a_roll_back_takes_candidate_back_to_the_champion(desk: ReleaseDesk) -> None:
    campaign_ends(desk, "campaign_succeeded", desk.signed_release("1"))
    crown(desk)
    campaign_ends(desk, "campaign_rolled_back", desk.signed_release("2"))
    crown(desk)
    assert desk.registry.aliases(NAME) == {"candidate": 1, "champion": 1}
    assert set(desk.states().values()) == {"SIGNED"}, "going back builds nothing"


def test_a_roll_back_of_what_is_no_longer_candidate_moves_nothing(desk: ReleaseDesk) -> None:
    campaign_ends(desk, "campaign_succeeded", desk.signed_release("1"))
    rolled_back = desk.signed_release("2")
    desk.candidate(desk.register("3").version)
    campaign_ends(desk, "campaign_rolled_back", rolled_back)
    crown(desk)
    assert desk.registry.aliases(NAME) == {"candidate": 3, "champion": 1}


def test_the_crown_waits_for_an_unreachable_registry(desk: ReleaseDesk) -> None:
    campaign_ends(desk, "campaign_succeeded", desk.signed_release())
    follower = Crown(desk.models, Log("test"))
    desk.registry.away = True
    assert refusal(follower.follow) == "API_REGISTRY_UNREACHABLE"
    desk.registry.away = False
    follower.follow()
    assert desk.registry.aliases(NAME)["champion"] == 1
