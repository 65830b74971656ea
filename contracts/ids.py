"""Identifiers: their form, and nothing else."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

DEVICE_ID = re.compile(r"dev-[a-z2-7]{26}")
SERVICE_ID = re.compile(r"svc-(?P<role>[a-z]+)-(?P<n>[0-9]+)")
SERVICE_ROLES = ("control", "ingest", "build")
LANES = ("windows", "live", "bulk", "alert")  # in the order in which they go: windows are few, and say most

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
DeviceId = Annotated[str, StringConstraints(pattern=r"^dev-[a-z2-7]{26}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class Wire(BaseModel):
    """Base of every model that crosses a border: frozen; unknown fields are tolerated; NaN and infinity, which JSON lacks, are not."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def service_urn(role: str) -> str:
    """The URI in the subject alternative name of a service's certificate."""
    return f"urn:skerry:svc:{role}"


def device_urn(device: str) -> str:
    """The URI in the subject alternative name of a device's certificate."""
    return f"urn:skerry:device:{device}"


def stream_id(device: str, lane: str, epoch: str) -> str:
    """`device/lane/epoch`; with seq and idx the identity of a row. `epoch` is 16 hex digits."""
    return f"{device}/{lane}/{epoch}"


def execution_id(campaign: str, device: str, attempt: int) -> str:
    """`<campaign>/<device>/<attempt>`; attempt counts from 1."""
    return f"{campaign}/{device}/{attempt}"
