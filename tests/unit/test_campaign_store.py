"""Campaigns in the database: who decided on an older campaign writes nothing, and a report counts once, for its own fence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import RejectedError
from contracts.operator import CampaignRequest
from contracts.states import State
from control_plane.domain.campaign import Campaign, Enter, apply
from control_plane.services.accept_reports import accept_reports
from control_plane.services.advance_campaigns import advance_campaigns
from control_plane.services.create_campaign import create_campaign
from control_plane.services.steer_campaign import steer_campaign
from control_plane.store import campaigns, devices
from tests.simulators.bundle_bytes import make_bundle
from tests.simulators.replicas import Replica, Reporter, Site, device_id

FIRST, SECOND = (make_bundle(number).digest for number in (1, 2))


@pytest.fixture(name="two")
def two_replicas(tmp_path: Path) -> Iterator[tuple[Replica, Replica]]:
    site = Site.made(tmp_path)
    made = site.replica(), site.replica()
    yield made
    for replica in made:
        replica.close()


def begin(replica: Replica, release: str = "tiny-1", **more: Any) -> str:
    campaign = create_campaign(replica.units, CampaignRequest(name="c", release=release, waves=({"size": 1},), **more), "op")
    advance_campaigns(replica.units)
    return campaign


def loaded(replica: Replica, campaign: str) -> Campaign:
    with replica.units.read() as session:
        return campaigns.load(session, campaigns.must(session, campaign))


def test_a_scheduler_that_decided_on_an_older_campaign_writes_nothing(two: tuple[Replica, Replica]) -> None:
    one, other = two
    campaign = begin(one)
    read = loaded(one, campaign)
    steer_campaign(other.units, campaign, "abort", "a person")
    with pytest.raises(RejectedError, match="API_CONFLICT"), one.units.write() as work:
        campaigns.save(work.session, read, apply(read, Enter("PAUSED"), work.now, lambda: 0), None)
    assert loaded(one, campaign).state == "ABORTED"


def test_a_report_ends_what_was_decided_without_it(two: tuple[Replica, Replica]) -> None:
    one, other = two
    campaign, device = begin(one), Reporter(device_id(0))
    device.poll(one)
    read = loaded(one, campaign)
    device.deliver(other)
    with pytest.raises(RejectedError, match="API_CONFLICT"), one.units.write() as work:
        campaigns.save(work.session, read, apply(read, Enter("PAUSED"), work.now, lambda: 0), None)


def carried_out(replica: Replica, device: Reporter, campaign: str) -> None:
    while loaded(replica, campaign).state == "RUNNING":
        device.poll(replica)
        device.deliver(replica)
        advance_campaigns(replica.units)


def test_a_report_with_another_fence_moves_nothing(two: tuple[Replica, Replica]) -> None:
    one, _ = two
    campaign, device = begin(one), Reporter(device_id(0))
    device.poll(one)
    honest = list(device.unsent)
    for wrong, first in ((-1, 1), (1, len(honest) + 1)):
        forged = [{**report, "fence": report["fence"] + wrong, "seq": seq} for seq, report in enumerate(honest, start=first)]
        accept_reports(one.units, device.id, device.batch(forged))
        assert [execution.state for execution in loaded(one, campaign).executions] == [State.OFFERED]


def test_a_resumed_campaign_takes_no_word_of_the_order_that_was_taken_back(two: tuple[Replica, Replica]) -> None:
    one, other = two
    campaign, device = begin(one), Reporter(device_id(0))
    device.poll(one)  # it is about to download; its reports are late
    late = [{**report, "state": "CONFIRMED", "bundle_digest": FIRST} for report in device.unsent[:1]]
    steer_campaign(one.units, campaign, "pause", "a person")
    steer_campaign(other.units, campaign, "resume", "a person")
    accept_reports(one.units, device.id, device.batch(late))
    assert [execution.state for execution in loaded(one, campaign).executions] == [State.SUPERSEDED, State.OFFERED]


def test_what_is_believed_confirmed_was_proven_on_this_device(two: tuple[Replica, Replica]) -> None:
    """A device that went back by itself says to what. Its word for a bundle that it never confirmed is no proof."""
    one, _ = two
    device = Reporter(device_id(0))
    for number in (1, 2):
        carried_out(one, device, begin(one, f"tiny-{number}"))
    assert device.confirmed == [FIRST, SECOND]
    for running, believed in ((FIRST, FIRST), ("f" * 64, "")):
        device.running = running
        device.put(kind="transition", state="REVERTED", local=True, code="WORKER_CRASH")
        device.deliver(one)
        with one.units.read() as session:
            assert devices.must(session, device.id).confirmed_digest == believed


def test_settling_what_was_just_written_decides_nothing(two: tuple[Replica, Replica]) -> None:
    one, other = two
    campaign = begin(one)
    before = loaded(one, campaign).revision
    advance_campaigns(other.units)
    assert loaded(one, campaign).revision == before
