"""Whatever order people, builders and signers act in, and whatever fails: the promises about releases hold."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contracts.errors import SkerryError
from contracts.release import BuildResult
from control_plane.services.models_crown import Crown
from control_plane.services.releases_catalogue import bundles
from control_plane.services.releases_state import TRANSITIONS
from program.log import Log
from tests.simulators.release_desk import NAME, PROFILE, ReleaseDesk

SEEDS = "123"
seeds = st.sampled_from(SEEDS)


def code_of(call: Callable[[], None]) -> str:
    """The code that `call` is refused with; "" when it is not."""
    try:
        call()
    except SkerryError as refused:
        return refused.code
    return ""


class Releases(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="skerry-releases-"))
        self.desk = ReleaseDesk(self.folder)
        self.states: dict[str, str] = {}
        self.approved: set[str] = set()

    def teardown(self) -> None:
        self.desk.close()
        shutil.rmtree(self.folder)

    @rule(seed=seeds)
    def register(self, seed: str) -> None:
        assert self.desk.register(seed).registration.data_digest.endswith(seed)

    @rule(version=st.integers(1, 3), behind_our_back=st.booleans())
    def move_candidate(self, version: int, behind_our_back: bool) -> None:
        if version > len(self.desk.registry.versions(NAME)):
            return
        if behind_our_back:
            self.desk.registry.move_behind_our_back(NAME, "candidate", version)
            self.desk.models.reconcile()
        else:
            self.desk.candidate(version)

    @rule(builder=st.sampled_from(("service:svc-build-1", "service:svc-build-2")), good=st.booleans(), late_s=st.sampled_from((0, 90)))
    def build(self, builder: str, good: bool, late_s: float) -> None:
        job = self.desk.next_job(builder)
        if job is None:
            return
        self.desk.clock.advance(late_s)
        result = BuildResult(manifests={PROFILE: self.desk.manifest(job)}) if good else BuildResult(code="BUILD_ACCURACY")
        self.desk.answer(job, result, builder)

    @rule(builder=st.sampled_from(("service:svc-build-1", "service:svc-build-2")))
    def die_building(self, builder: str) -> None:
        self.desk.next_job(builder)
        self.desk.clock.advance(61)

    @rule(by_a_stranger=st.booleans())
    def approve(self, by_a_stranger: bool) -> None:
        for release_id, state in self.desk.states().items():
            if state != "BUILT":
                continue
            key = self.desk.stranger if by_a_stranger else None
            code = code_of(lambda release_id=release_id, key=key: self.desk.approve(release_id, key))  # type: ignore[misc]
            assert code == ("SIGNER_APPROVAL" if by_a_stranger else "")
            self.approved |= set() if by_a_stranger else {release_id}

    @rule(away=st.booleans(), refuses=st.sampled_from(("", "", "SIGNER_MANIFEST", "SIGNER_APPROVAL")))
    def sign(self, away: bool, refuses: str) -> None:
        self.desk.signer.away, self.desk.signer.refuses = away, refuses
        for release_id in self.desk.states():
            code = code_of(lambda release_id=release_id: self.desk.sign(release_id))  # type: ignore[misc]
            assert code in ("", "SIGNER_UNREACHABLE" if away else refuses)

    @rule(event=st.sampled_from(("campaign_succeeded", "campaign_rolled_back")))
    def end_campaign(self, event: str) -> None:
        signed = [release_id for release_id, state in self.desk.states().items() if state == "SIGNED"]
        if signed:
            with self.desk.units.write() as work:
                work.event(event, "campaign", release=signed[0])
            Crown(self.desk.models, Log("test")).follow()

    @invariant()
    def steps_are_those_of_the_table(self) -> None:
        now = self.desk.states()
        assert set(self.states) <= set(now), "a release never disappears"
        for release_id, state in now.items():
            before = self.states.get(release_id, "BUILDING")
            assert before == state or (before, state) in TRANSITIONS
        self.states = now

    @invariant()
    def numbers_are_dense(self) -> None:
        assert sorted(self.desk.states()) == sorted(f"{NAME}-{number}" for number in range(1, len(self.desk.states()) + 1))

    @invariant()
    def a_model_version_has_at_most_one_release_that_has_not_failed(self) -> None:
        alive = [self.desk.view(release_id).model_version for release_id, state in self.desk.states().items() if state != "FAILED"]
        assert len(alive) == len(set(alive))

    @invariant()
    def nothing_is_signed_or_offered_that_a_person_did_not_approve(self) -> None:
        assert {release.id for release in self.desk.signer.signed} <= self.approved
        with self.desk.units.read() as session:
            offered = {release_id for release_id in self.desk.states() if bundles(session, release_id)}
        assert offered == {release_id for release_id, state in self.desk.states().items() if state == "SIGNED"}
        assert offered <= {release.id for release in self.desk.signer.signed}


Releases.TestCase.settings = settings(max_examples=20, stateful_step_count=20)
TestReleases = Releases.TestCase
