"""How long a wave waits for its verdict once the last device has reported: from the event log of a real skerry-control."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from contracts.operator import EventView
from tests.integration.control_process import ControlProcess, ScriptedDevice, decided_after_s
from tests.simulators.bundle_bytes import make_bundle

DEVICES, WAVES = 24, 4
GOAL_S = 2.0
GATES = [{"metric": "latency_p95_us", "limit": 20_000, "min_samples": 100}]


def figures() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="skerry-decisions-") as name:
        control = ControlProcess(Path(name)).start()
        try:
            taken_s = sorted(_decisions(control, Path(name)))
        finally:
            control.stop()
    if len(taken_s) != WAVES:
        raise AssertionError(f"{len(taken_s)} waves of {WAVES} were decided")
    worst = round(taken_s[-1], 3)
    against = f"{WAVES} waves of {DEVICES // WAVES} devices; median {taken_s[WAVES // 2]:.3f} s"
    return [
        {
            "name": "wave decided after its last report, worst",
            "value": worst,
            "unit": "s",
            "goal": f"<= {GOAL_S:g}",
            "holds": worst <= GOAL_S,
            "against": against,
        }
    ]


def _decisions(control: ControlProcess, folder: Path) -> list[float]:
    control.sign(make_bundle(1), "tiny-1")
    fleet = {one.id: one for one in (ScriptedDevice.enrol(control, folder) for _ in range(DEVICES))}
    names = sorted(fleet)
    waves = [names[number * DEVICES // WAVES : (number + 1) * DEVICES // WAVES] for number in range(WAVES)]
    asked = {"name": "roll", "release": "tiny-1", "waves": [{"devices": wave, "gates": GATES} for wave in waves]}
    campaign = control.operators("POST", "/v1/campaigns", asked).json["id"]
    for number, wave in enumerate(waves, start=1):
        control.event("wave_moved", wave=number, state="OPEN")
        for device in wave:
            fleet[device].install()
    control.event("campaign_succeeded", release="tiny-1")
    return decided_after_s([EventView.model_validate(line) for line in control.events()], campaign)
