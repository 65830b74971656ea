"""Alarms of services, into the event log. The service says what and about whom; who says it, its certificate says."""

from __future__ import annotations

from contracts.errors import CODES, error
from contracts.operator import ServiceAlarms
from control_plane.services.unit_of_work import Units


def accept_alarms(units: Units, service: str, told: ServiceAlarms) -> None:
    """One line `service_alarm` each. Raises API_INVALID for a code that is not in the registry."""
    unknown = sorted({alarm.code for alarm in told.alarms} - set(CODES))
    if unknown:
        raise error("API_INVALID", unknown[0][:80], "no such error code")
    with units.write() as work:
        for alarm in told.alarms:
            work.event("service_alarm", alarm.device, service, code=alarm.code, detail=alarm.detail, count=alarm.count)
