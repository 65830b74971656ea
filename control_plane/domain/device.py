"""The life of a device in the registry, as a table. Only an ACTIVE device is answered; DECOMMISSIONED is for ever."""

from __future__ import annotations

from typing import Literal

from contracts.errors import error

DeviceState = Literal["PENDING", "ACTIVE", "QUARANTINED", "DECOMMISSIONED"]
DeviceAct = Literal["approve", "quarantine", "release", "revoke"]

# fmt: off
TRANSITIONS: dict[tuple[DeviceState, DeviceAct], DeviceState] = {
    ("PENDING",     "approve"):    "ACTIVE",
    ("PENDING",     "revoke"):     "DECOMMISSIONED",
    ("ACTIVE",      "quarantine"): "QUARANTINED",
    ("QUARANTINED", "release"):    "ACTIVE",
    ("ACTIVE",      "revoke"):     "DECOMMISSIONED",
    ("QUARANTINED", "revoke"):     "DECOMMISSIONED",
}
# fmt: on


def after(device: str, state: DeviceState, act: DeviceAct) -> DeviceState:
    """The state after `act`; raises API_CONFLICT where the table has no row."""
    try:
        return TRANSITIONS[state, act]
    except KeyError:
        raise error("API_CONFLICT", device, f"{act} is not possible in state {state}") from None
