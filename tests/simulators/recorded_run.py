"""A run as it is read of a site, made up on a clock: three devices, v1 and v2 rolled out, v3 stopped twice, kills, absences, refusals."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

from contracts.operator import CampaignView, EventView
from deploy.local.picture.assembly import Read

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
DEVICES = tuple(f"dev-{letter * 26}" for letter in "abc")
DIGESTS = {1: "1a" * 32, 2: "2b" * 32, 3: "3c" * 32}
ENDS_S = 280
FPS = 20
Log = list[tuple[float, str, str, dict[str, Any]]]  # second, event, subject, data


def utc(second: float) -> str:
    return (BEGAN + timedelta(seconds=second)).isoformat()


def recorded() -> Read:
    log = sorted([*_releases(), *_first(), *_second(), *_shadowed(), *_exposed(), *_refused()], key=lambda line: line[0])
    events = [
        EventView(seq=number, utc=utc(second), event=event, subject=subject, actor="system", data=data, hash="0" * 64)
        for number, (second, event, subject, data) in enumerate(log, 1)
    ]
    return Read(events, _views(), _rates(), _record(), _logs(), ("broker", "control", "ingest"))


def _releases() -> Log:
    return [
        (second, "release_built", f"digits_line-{n}",
         {"model_version": f"model:digits_line/{n}", "manifests": {"x86-cpu-avx2": DIGESTS[n]}})
        for n, second in ((1, 2.0), (2, 38.0), (3, 118.0))
    ]  # fmt: skip


def _created(second: float, name: str, version: int) -> Log:
    return [(second, "campaign_created", name, {"release": f"digits_line-{version}", "devices": list(DEVICES), "request": {}})]


def _wave(second: float, name: str, number: int, state: str) -> Log:
    return [(second, "wave_moved", name, {"wave": number, "state": state, "code": "CAMPAIGN_GATE" if state == "FAILED" else ""})]


def _moved(second: float, name: str, state: str) -> Log:
    return [(second, "campaign_moved", name, {"state": state, "reason": ""})]


def _execution(name: str, device: str, version: int, states: dict[str, float], kind: str = "install", attempt: int = 1) -> Log:
    data = {"device": device, "kind": kind, "target_digest": DIGESTS[version], "code": ""}
    return [(second, "execution_moved", f"{name}/{device}/{attempt}", {**data, "state": state}) for state, second in states.items()]


def _install(name: str, device: str, version: int, second: float) -> Log:
    states = {"OFFERED": second, "DOWNLOADING": second + 0.5, "ACTIVATING": second + 2, "PROBATION": second + 3, "CONFIRMED": second + 9}
    return _execution(name, device, version, states)


def _first() -> Log:
    return [
        *_created(5, "first-1", 1), *_wave(5.1, "first-1", 1, "OPEN"),
        *(line for device in DEVICES for line in _install("first-1", device, 1, 5.2)),
        *_wave(15, "first-1", 1, "SOAKING"), *_wave(16, "first-1", 1, "PASSED"), *_moved(16, "first-1", "SUCCEEDED"),
    ]  # fmt: skip


def _second() -> Log:
    return [
        *_created(45, "second-1", 2), *_wave(45.1, "second-1", 1, "OPEN"), *_install("second-1", DEVICES[0], 2, 45.2),
        *_wave(56, "second-1", 1, "SOAKING"), *_wave(58, "second-1", 1, "PASSED"), *_wave(58, "second-1", 2, "OPEN"),
        *(line for device in DEVICES[1:] for line in _install("second-1", device, 2, 58.2)),
        *_wave(70, "second-1", 2, "SOAKING"), *_wave(72, "second-1", 2, "PASSED"), *_moved(72, "second-1", "SUCCEEDED"),
    ]  # fmt: skip


def _shadowed() -> Log:
    states = {"OFFERED": 125.2, "DOWNLOADING": 126.0, "SHADOWING": 128.0, "CANCELED": 139.0}
    return [
        *_created(125, "shadow-1", 3), *_wave(125.1, "shadow-1", 1, "OPEN"), *_execution("shadow-1", DEVICES[0], 3, states),
        *_wave(138, "shadow-1", 1, "FAILED"), *_moved(138, "shadow-1", "PAUSED"),
    ]  # fmt: skip


def _exposed() -> Log:
    install = {"OFFERED": 150.2, "DOWNLOADING": 150.6, "ACTIVATING": 151.0, "PROBATION": 152.0, "SUPERSEDED": 160.0}
    back = {"OFFERED": 160.0, "ACTIVATING": 160.6, "PROBATION": 161.0, "CONFIRMED": 167.0}
    return [
        *_created(150, "exposed-1", 3), *_wave(150.1, "exposed-1", 1, "OPEN"), *_execution("exposed-1", DEVICES[0], 3, install),
        *_wave(160, "exposed-1", 1, "FAILED"), *_moved(160, "exposed-1", "ROLLING_BACK"),
        *_execution("exposed-1", DEVICES[0], 2, back, "rollback", 2), *_moved(167, "exposed-1", "ROLLED_BACK"),
    ]  # fmt: skip


LIES = (
    (178, "BUNDLE_MEMBER_DIGEST"), (182, "TUF_UNSIGNED"), (186, "TUF_ROLLBACK"), (190, "BUNDLE_EPOCH"), (194, "ASSIGNMENT_DEVICE"),
    (198, "TUF_EXPIRED"), (201, "ACK_SIGNATURE"), (206, "REPORT_EXECUTION"), (209, "SIGNER_PROVENANCE"), (212, "SIGNER_APPROVAL"),
)  # fmt: skip


def _refused() -> Log:
    return [(float(second), "device_event", DEVICES[2], {"what": "device_error", "code": code, "detail": ""}) for second, code in LIES]


def _gate(metric: str, limit: float, verdict: str, value: float | None = None, samples: int = 0, reason: str = "", **more: float) -> Any:
    return {"metric": metric, "limit": limit, "verdict": verdict, "value": value, "samples": samples, "reason": reason, **more}


def _view(name: str, version: int, state: str, waves: list[tuple[str, list[dict[str, Any]]]]) -> CampaignView:
    return CampaignView.model_validate({
        "id": f"{name}-1", "name": f"{name}-model", "release": f"digits_line-{version}", "state": state, "revision": 1,
        "waves": [{"number": n, "state": wave, "gates": gates, "executions": []} for n, (wave, gates) in enumerate(waves, 1)],
    })  # fmt: skip


def _views() -> list[CampaignView]:
    installed = _gate("install_success", 1.0, "passed", 1.0, 1)
    no_shadow = _gate("agreement", 0.1, "not_applicable", reason="no device of the wave has an incumbent")
    fast, slow = _gate("latency_p95_us", 20_000, "passed", 431.0, 160), _gate("latency_p95_us", 20_000, "failed", 27_500.0, 140)
    disagrees = _gate("agreement", 0.1, "failed", 0.694, 152, low=0.56, high=0.82, passes_at=0.85, fails_at=0.92)
    ratio = _gate("latency_p95_vs_incumbent", 3.0, "failed", 19.4, 152, low=15.2, passes_at=6.4, fails_at=7.0)
    return [
        _view("first", 1, "SUCCEEDED", [("PASSED", [installed, no_shadow])]),
        _view("second", 2, "SUCCEEDED", [("PASSED", [installed, fast]), ("PASSED", [installed, fast])]),
        _view("shadow", 3, "PAUSED", [("FAILED", [disagrees, ratio]), ("PENDING", [])]),
        _view("exposed", 3, "ROLLED_BACK", [("FAILED", [slow]), ("PENDING", [])]),
    ]


BROKER_AWAY, CONTROL_AWAY = (228.0, 238.0), (245.0, 255.0)


def _rates() -> dict[str, Any]:
    """Commits come a second after acceptance, and not at all while the broker is away."""
    base = int(BEGAN.timestamp())
    answered = [[base + second, device, _runs(device, second), FPS] for second in range(9, ENDS_S) for device in DEVICES]
    answered = [row for row in answered if row[0] != base + 92 or row[1] != DEVICES[1]]  # the agent that was killed
    accepted = [[base + second, FPS * len(DEVICES)] for second in range(9, ENDS_S)]
    committed: dict[int, int] = {}
    for second, rows in accepted:
        at_s = second - base + 1
        at_s = math.ceil(BROKER_AWAY[1]) + 1 if BROKER_AWAY[0] <= at_s <= BROKER_AWAY[1] + 1 else at_s
        committed[base + at_s] = committed.get(base + at_s, 0) + rows
    quarantine = [[base + 203, DEVICES[2], "INGEST_SIGNATURE", 40]]
    return {
        "bin_s": 1, "answered": answered, "accepted": accepted, "committed": [list(row) for row in committed.items()],
        "quarantine": quarantine, "gaps": [],
    }  # fmt: skip


def _runs(device: str, second: int) -> str:
    if second < (47 if device == DEVICES[0] else 60):
        return DIGESTS[1]
    return DIGESTS[3 if device == DEVICES[0] and 151 <= second < 161 else 2]


def _record() -> list[dict[str, Any]]:
    told = [
        (63.0, "control", "freeze", "SIGSTOP"), (63.4, "control", "kill", "SIGKILL"), (66.0, "control", "ready", ""),
        (91.6, "agent-2", "kill", "SIGKILL"), (93.1, "agent-2", "ready", ""),
        (97.0, "ingest", "kill", "SIGKILL"), (98.9, "ingest", "ready", ""), (103.0, "broker", "freeze", "SIGSTOP"),
        (103.6, "broker", "kill", "SIGKILL"), (104.0, "broker", "ready", ""),
        (BROKER_AWAY[0], "broker", "stopping", ""), (BROKER_AWAY[1], "broker", "ready", ""),
        (CONTROL_AWAY[0], "control", "stopping", ""), (CONTROL_AWAY[1], "control", "ready", ""),
    ]  # fmt: skip
    return [{"utc": utc(second), "name": name, "what": what, "detail": detail} for second, name, what, detail in told]


def _logs() -> dict[str, list[dict[str, Any]]]:
    logs: dict[str, list[dict[str, Any]]] = {
        f"agent-{n}": [{"utc": utc(0), "event": "agent_ready", "device_id": device}] for n, device in enumerate(DEVICES, 1)
    }
    logs["agent-1"] += [
        {"utc": utc(80.0), "level": "error", "event": "worker_died", "returncode": -9},
        {"utc": utc(86.0), "level": "error", "event": "pipeline_died", "returncode": -9},
    ]
    return logs
