"""Executions and their fences: two replicas on one real database, two campaigns that want the same devices, devices whose reports
come late, twice, out of order or forged, and people who pause, resume and abort. The invariants are those of
docs/explanation/campaigns.md that need the database; test_campaign.py has the others.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.errors import RejectedError
from contracts.operator import CampaignRequest
from contracts.reports import ReportBatch
from contracts.states import TERMINAL, State
from control_plane.domain.campaign import Campaign
from control_plane.domain.execution import Execution
from control_plane.domain.steering import Act
from control_plane.services.accept_reports import accept_reports
from control_plane.services.advance_campaigns import advance_campaigns
from control_plane.services.create_campaign import create_campaign
from control_plane.services.steer_campaign import steer_campaign
from control_plane.store import campaigns, desired, devices, events
from control_plane.store.events import CHAIN_START
from tests.simulators.bundle_bytes import make_bundle
from tests.simulators.replicas import Issued, Replica, Reporter, Site, reporters

DEVICES, RELEASES = 3, 3
DIGESTS = [make_bundle(number).digest for number in range(1, RELEASES + 1)]
ENDS = frozenset(state.value for state in TERMINAL)
FAILURES = ("rollback", "pause")
STAMP = {
    "kind": "event", "event": "lie", "fence": 1, "seq": 1, "boot_id": "b", "mono_ms": 1, "utc": "2026-01-01T00:00:00Z", "bundle_digest": "",
}  # fmt: skip
WHICH = st.integers(0, DEVICES - 1)
VIA = st.integers(0, 1)


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A database with devices and signed releases, copied for each example."""
    ExecutionMachine.template = Site.made(tmp_path_factory.mktemp("template"), DEVICES, RELEASES, life_s=60)


class Log:
    """The event log, folded as it grows."""

    def __init__(self) -> None:
        self.seq, self.hash = 0, CHAIN_START
        self.states: dict[str, str] = {}  # execution or campaign -> state
        self.waves: dict[tuple[str, int], str] = {}
        self.opened: Counter[tuple[str, int]] = Counter()
        self.offered_beyond: list[str] = []

    def grow(self, replica: Replica) -> None:
        with replica.units.read() as session:
            lines = events.read(session, self.seq, 10_000)
        assert events.first_broken(lines, self.hash) is None, "the chain holds"
        for line in lines:
            self.seq, self.hash = line.seq, line.hash
            getattr(self, f"_{line.event}", lambda _: None)(line)

    def _execution_moved(self, line: Any) -> None:
        assert self.states.get(line.subject) not in ENDS, f"I3: {line.subject} moved from {self.states[line.subject]}"
        self.states[line.subject] = line.data["state"]
        if line.data["state"] == "OFFERED" and line.data["kind"] == "install":
            campaign = line.subject.partition("/")[0]
            running = [state for (name, _), state in self.waves.items() if name == campaign and state != "PASSED"]
            assert running in (["OPEN"], ["SOAKING"]), f"I2: {line.subject} was offered with waves {running}"

    def _campaign_moved(self, line: Any) -> None:
        self.states[line.subject] = line.data["state"]

    def _wave_moved(self, line: Any) -> None:
        key = line.subject, line.data["wave"]
        self.waves[key] = line.data["state"]
        self.opened[key] += line.data["state"] == "OPEN"


class ExecutionMachine(RuleBasedStateMachine):
    template: Site

    @initialize(slow=WHICH, bad=WHICH)
    def begin(self, slow: int, bad: int) -> None:
        """`bad` cannot live with the second bundle; the third is slow on `slow`."""
        self.folder = Path(tempfile.mkdtemp(prefix="skerry-executions-"))
        self.site = self.template.copy(self.folder)
        self.replicas = self.site.replica(), self.site.replica()
        self.fleet: list[Reporter] = list(reporters(DEVICES, Issued()))
        self.fleet[bad].faults, self.fleet[slow].us = {DIGESTS[1]: State.REVERTED}, {DIGESTS[2]: 50_000.0}
        self.log, self.begun = Log(), 0
        self.new_campaign((None,), 0, "rollback", 0)

    # -- people and schedulers

    @precondition(lambda self: self.begun < 5)
    @rule(sizes=st.sampled_from([(None,), (1, None)]), pairs=st.sampled_from([0, 100]), on_failure=st.sampled_from(FAILURES), via=VIA)
    def new_campaign(self, sizes: tuple[int | None, ...], pairs: int, on_failure: str, via: int) -> None:
        gates = [{"metric": "latency_p95_us", "limit": 10_000, "min_samples": 100}]
        asked = {"name": "c", "release": f"tiny-{self.begun % RELEASES + 1}", "shadow_pairs": pairs, "on_failure": on_failure}
        waves = [{"size": size, "gates": gates} for size in sizes]
        request = CampaignRequest.model_validate({**asked, "waves": waves, "wave_deadline_s": 300})
        create_campaign(self.replicas[via].units, request, "op")
        self.begun += 1
        advance_campaigns(self.replicas[via].units)

    @rule(which=st.integers(0, 4), act=st.sampled_from(["pause", "resume", "resume", "abort"]), via=VIA)
    def steer(self, which: int, act: Act, via: int) -> None:
        campaign = self._campaigns()[which % self.begun].id
        with suppress(RejectedError):  # which acts are refused, test_campaign.py says
            steer_campaign(self.replicas[via].units, campaign, act, "a person")

    @rule(seconds=st.sampled_from([1, 31, 301]), via=VIA)
    def wait(self, seconds: int, via: int) -> None:
        self.site.clock.advance(seconds)
        advance_campaigns(self.replicas[via].units)

    # -- devices

    @rule(via=VIA)
    def everybody_goes_on(self, via: int) -> None:
        """The usual case, through both replicas."""
        for one in self.fleet:
            one.poll(self.replicas[via])
            one.deliver(self.replicas[1 - via])
        advance_campaigns(self.replicas[via].units)

    @rule(which=WHICH, via=VIA)
    def poll(self, which: int, via: int) -> None:
        self.fleet[which].poll(self.replicas[via])

    @rule(which=WHICH, via=VIA, how=st.sampled_from(["whole", "reversed", "first", "last", "twice"]))
    def deliver(self, which: int, via: int, how: str) -> None:
        """`last` leaves a gap; `twice` loses the answer and sends all of it again to the other replica."""
        device, units = self.fleet[which], self.replicas[via].units
        some = {"reversed": device.unsent[::-1], "first": device.unsent[:1], "last": device.unsent[-1:]}.get(how, list(device.unsent))
        if some and how != "whole":
            accept_reports(units, device.id, device.batch(some))
        if how in ("whole", "twice"):
            device.deliver(self.replicas[1 - via])

    @rule(which=WHICH, wrong=st.sampled_from([{"fence": -1}, {"fence": +1}, {"bundle_digest": "f" * 64}]), via=VIA)
    def lie(self, which: int, wrong: dict[str, Any], via: int) -> None:
        """CONFIRMED, under another order's fence, or by a bundle that is not the target."""
        device, before = self.fleet[which], self._campaigns()
        if device.order is None or device.unsent:
            return
        device.put(kind="transition", state="CONFIRMED")
        word = {**device.unsent.pop(), "bundle_digest": device.target, **wrong}
        word["fence"] = device.order.fence + wrong.get("fence", 0)
        accept_reports(self.replicas[via].units, device.id, device.batch([word]))
        assert self._campaigns() == before

    @rule(which=WHICH, other=WHICH, via=VIA)
    def lie_about_another(self, which: int, other: int, via: int) -> None:
        liar, victim = self.fleet[which], self.fleet[other]
        if victim.order is not None and victim is not liar:
            forged = {**victim.batch([]).model_dump(), "device": liar.id, "reports": [STAMP | {"execution": victim.order.execution}]}
            with pytest.raises(RejectedError, match="REPORT_EXECUTION"):
                accept_reports(self.replicas[via].units, liar.id, ReportBatch.model_validate(forged))

    @precondition(lambda self: any(one.state is State.CONFIRMED and len(one.confirmed) > 1 for one in self.fleet))
    @rule()
    def a_device_goes_back_by_itself(self) -> None:
        device = next(one for one in self.fleet if one.state is State.CONFIRMED and len(one.confirmed) > 1)
        device.running = device.confirmed[0]
        device.put(kind="transition", state="REVERTED", local=True, code="WORKER_CRASH")

    # -- what must hold

    def _campaigns(self) -> list[Campaign]:
        with self.replicas[0].units.read() as session:
            return [campaigns.load(session, row) for row in campaigns.listed(session)]

    @invariant()
    def all_of_it(self) -> None:
        """Read once, since reading is what takes the time."""
        found = self._campaigns()
        every = [one for campaign in found for one in campaign.executions]
        self.i1_one_open_execution_and_it_is_what_the_device_is_told(every)
        self.i2_i3_i6_the_log_says_what_the_rows_say(found)
        self.i4_what_is_believed_confirmed_was_confirmed_there()
        self.i9_i10_fences_are_given_once_and_a_roll_back_is_the_newest_order(every)

    def i1_one_open_execution_and_it_is_what_the_device_is_told(self, every: list[Execution]) -> None:
        assert max(Counter(one.device for one in every if one.open).values(), default=0) <= 1
        with self.replicas[1].units.read() as session:
            orders = {one.id: desired.find(session, one.id) for one in self.fleet}
        for device, row in orders.items():
            offered = [one for one in every if one.device == device and one.offered_utc]
            told = row is not None and row.order["kind"] != "none"
            assert told or not any(one.open and not one.withdrawn for one in offered), "no offer without an order"
            if row and told:
                newest = max(offered, key=lambda one: one.fence)
                assert (row.order["execution"], row.order["fence"]) == (newest.id, newest.fence)
                assert row.order["components"][0]["sha256"] == newest.target_digest

    def i2_i3_i6_the_log_says_what_the_rows_say(self, found: list[Campaign]) -> None:
        self.log.grow(self.replicas[1])
        executions = {one.id: one.state.value for every in found for one in every.executions}
        assert {name: state for name, state in self.log.states.items() if "/" in name} == executions
        assert {every.id: self.log.states.get(every.id, "RUNNING") for every in found} == {every.id: every.state for every in found}
        assert set(self.log.opened.values()) <= {0, 1}, "no wave is opened twice"

    def i4_what_is_believed_confirmed_was_confirmed_there(self) -> None:
        with self.replicas[0].units.read() as session:
            for one in self.fleet:
                assert devices.must(session, one.id).confirmed_digest in ("", *one.confirmed)

    def i9_i10_fences_are_given_once_and_a_roll_back_is_the_newest_order(self, every: list[Execution]) -> None:
        assert len({one.fence for one in every}) == len(every)
        for one in every:
            if one.kind == "rollback":
                campaign = one.id.partition("/")[0]
                mine = [other.fence for other in every if other.device == one.device and other.id.startswith(campaign) and other is not one]
                assert one.fence > max(mine)

    def teardown(self) -> None:
        if hasattr(self, "replicas"):
            for replica in self.replicas:
                replica.close()
            shutil.rmtree(self.folder)


ExecutionMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestExecutions = ExecutionMachine.TestCase
