"""Make a campaign: choose its devices, freeze its gates, refuse what cannot work before anything is offered."""

from __future__ import annotations

import secrets

from contracts.errors import error
from contracts.operator import CampaignRequest
from control_plane.domain.gates import with_implicit
from control_plane.domain.wave import Wave
from control_plane.services import releases_catalogue
from control_plane.services.unit_of_work import UnitOfWork, Units
from control_plane.store import campaigns, counters, devices
from control_plane.store.campaigns import CampaignRow
from control_plane.store.devices import DeviceRow

CAMPAIGNS = "campaigns"


def create_campaign(units: Units, request: CampaignRequest, actor: str) -> str:
    """The id of the new campaign, which is RUNNING.

    Raises CAMPAIGN_INVALID (a device is named twice or not active), CAMPAIGN_NO_DEVICE (nothing carries the labels),
    CAMPAIGN_WAVE_EMPTY, CAMPAIGN_NO_RELEASE (the release is not signed, or lacks a profile of the devices).
    """
    request.check_waves()
    with units.write() as work:
        waves = _waves(work, request)
        chosen = [device for wave in waves for device in wave.devices]
        _check_release(work, request.release, chosen)
        campaign = f"{request.name}-{secrets.token_hex(4)}"
        work.session.add(
            CampaignRow(
                id=campaign, number=counters.raised(work.session, CAMPAIGNS), name=request.name, release=request.release,
                request=request.model_dump(mode="json"), state="RUNNING", revision=1, created_utc=work.now, alarm_utc=work.now,
            )
        )  # fmt: skip
        work.session.flush()
        work.session.add_all(campaigns.wave_row(campaign, wave) for wave in waves)
        work.event("campaign_created", campaign, actor, release=request.release, devices=chosen, request=request.model_dump(mode="json"))
    return campaign


def _waves(work: UnitOfWork, request: CampaignRequest) -> list[Wave]:
    candidates = {row.id: row for row in devices.listed(work.session) if row.state == devices.ACTIVE and _carries(row, request.labels)}
    if not candidates:
        raise error("CAMPAIGN_NO_DEVICE", request.name, _wanted(request.labels))
    named = [device for wave in request.waves for device in wave.devices]
    if len(set(named)) != len(named):
        raise error("CAMPAIGN_INVALID", request.name, "a device is named twice")
    if missing := sorted(set(named) - set(candidates)):
        raise error("CAMPAIGN_INVALID", request.name, f"not active, or without the labels: {', '.join(missing)}")
    left = [device for device in candidates if device not in set(named)]
    waves = []
    for number, asked in enumerate(request.waves, start=1):
        taken = list(asked.devices) or left[: asked.size]
        left = [device for device in left if device not in set(taken)]
        if not taken:
            raise error("CAMPAIGN_WAVE_EMPTY", request.name, f"no device is left for wave {number}")
        waves.append(Wave(number, tuple(taken), with_implicit(asked.gates), asked.soak_s))
    return waves


def _wanted(labels: dict[str, str]) -> str:
    return (
        f"no active device has {', '.join(f'{key}={value}' for key, value in sorted(labels.items()))}" if labels else "no device is active"
    )


def _carries(row: DeviceRow, labels: dict[str, str]) -> bool:
    return all(row.labels.get(key) == value for key, value in labels.items())


def _check_release(work: UnitOfWork, release: str, chosen: list[str]) -> None:
    bundles = releases_catalogue.bundles(work.session, release)
    if not bundles:
        raise error("CAMPAIGN_NO_RELEASE", release, "not signed")
    profiles = {device: devices.must(work.session, device).profile for device in chosen}
    if lacking := sorted({profile or "(none)" for profile in profiles.values()} - set(bundles)):
        raise error("CAMPAIGN_NO_RELEASE", release, f"no bundle for profile {', '.join(lacking)}")
